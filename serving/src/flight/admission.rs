//! Who calls: a token in each call, or in the handshake that some drivers begin with.
//!
//! ```text
//! authorization: Bearer twofold_…
//! authorization: Basic base64(user:twofold_…)      the password is the token; the user is not looked at
//! ```
//!
//! A call with a password is answered with the header that later calls may have in its place, since drivers that are
//! given one expect that.

use super::status::status;
use crate::access::Gate;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::sync::Arc;
use tonic::body::Body;
use twofold_common::{Error, Result};

/// With padding or without: ADBC's driver sends none.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Lets a call in, or refuses it.
pub(super) async fn pass(State(gate): State<Arc<Gate>>, call: Request, next: Next) -> Response {
    let shown = call.headers().get_all(AUTHORIZATION).iter().collect::<Vec<_>>();
    let admitted = token(&shown).and_then(|shown| {
        let access = gate.admit(shown.as_ref().map(|(token, _)| token.as_str()))?;
        Ok((access, shown))
    });
    match admitted {
        Ok((access, shown)) => {
            let mut response = access.scope(next.run(call)).await;
            if let Some((token, true)) = shown
                && let Ok(mut bearer) = HeaderValue::try_from(format!("Bearer {token}"))
            {
                bearer.set_sensitive(true);
                response.headers_mut().insert(AUTHORIZATION, bearer);
            }
            response
        }
        Err(e) => status(e).into_http::<Body>().map(axum::body::Body::new),
    }
}

/// The token that is shown, if one is, and whether it was as a password.
fn token(shown: &[&HeaderValue]) -> Result<Option<(String, bool)>> {
    let wrong = || {
        let ways = "`Bearer twofold_…`, or a user and the token as the password";
        Error::Unauthenticated(format!("authorization is not one of: {ways}"))
    };
    let value = match shown {
        [] => return Ok(None),
        [value] => value.to_str().map_err(|_| wrong())?,
        _ => return Err(wrong()),
    };
    let (scheme, shown) = value.split_once(' ').ok_or_else(wrong)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some((shown.to_string(), false)));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(wrong());
    }
    let pair = BASE64.decode(shown.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = pair.ok_or_else(wrong)?;
    match pair.split_once(':').ok_or_else(wrong)? {
        // A driver that was given no password.
        (_, "") => Ok(None),
        (_, password) => Ok(Some((password.to_string(), true))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Option<(String, bool)>> {
        let values: Vec<_> = values.iter().map(|value| HeaderValue::try_from(*value).unwrap()).collect();
        token(&values.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_token_is_found_as_a_bearer_or_as_a_password() {
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&["bearer abc"]).unwrap(), Some(("abc".into(), false)));
        // ada:a:b
        assert_eq!(read(&["Basic YWRhOmE6Yg=="]).unwrap(), Some(("a:b".into(), true)));
        assert_eq!(read(&["Basic YWRhOmE6Yg"]).unwrap(), Some(("a:b".into(), true)));
        // ada:
        assert_eq!(read(&["Basic YWRhOg=="]).unwrap(), None);
        for wrong in [&["abc"][..], &["Digest abc"], &["Basic %"], &["Basic YWRh"], &["Bearer a", "Bearer b"]]
        {
            assert!(matches!(read(wrong), Err(Error::Unauthenticated(_))), "{wrong:?}");
        }
    }
}

//! Errors as gRPC statuses: the kind decides.

use tonic::{Code, Status};
use twofold_common::{Error, Kind};

/// Longer messages do not fit what some clients take of a status.
const LONGEST: usize = 1500;

/// The status that tells of an error, which is logged if it is ours.
pub(super) fn status(error: impl Into<Error>) -> Status {
    let error = error.into();
    match error.kind() {
        Kind::Corrupt | Kind::Internal => tracing::error!(error = %error, "a request failed"),
        _ => tracing::debug!(error = %error, "a request was refused"),
    }
    Status::new(code(error.kind()), shortened(error.to_string()))
}

/// The status of a request that is not what it should be.
pub(super) fn invalid(message: impl Into<String>) -> Status {
    status(Error::Invalid(message.into()))
}

/// The status of what is refused because answers are all that there is.
pub(super) fn read_only(asked: &str, instead: &str) -> Status {
    Status::new(
        Code::Unimplemented,
        format!("{asked}: Twofold answers queries here, and changes nothing; {instead}"),
    )
}

fn code(kind: Kind) -> Code {
    match kind {
        Kind::Invalid => Code::InvalidArgument,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::NotFound => Code::NotFound,
        Kind::Conflict => Code::Aborted,
        Kind::Unavailable => Code::Unavailable,
        Kind::Busy => Code::ResourceExhausted,
        Kind::Corrupt => Code::DataLoss,
        Kind::Internal => Code::Internal,
    }
}

fn shortened(mut message: String) -> String {
    if message.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_code_and_keeps_its_message() {
        for (error, code) in [
            (Error::Invalid("a".into()), Code::InvalidArgument),
            (Error::Unauthenticated("a".into()), Code::Unauthenticated),
            (Error::Forbidden("a".into()), Code::PermissionDenied),
            (Error::NotFound("a".into()), Code::NotFound),
            (Error::Conflict("a".into()), Code::Aborted),
            (Error::Unavailable("a".into()), Code::Unavailable),
            (Error::Busy("a".into()), Code::ResourceExhausted),
        ] {
            let status = status(error);
            assert_eq!((status.code(), status.message()), (code, "a"));
        }
        assert_eq!(status(Error::corrupt("p", "r")).code(), Code::DataLoss);
        assert_eq!(status(Error::Internal("x".into())).code(), Code::Internal);
    }

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        let long = status(Error::Invalid("é".repeat(5000)));
        assert!(long.message().ends_with("é…") && long.message().len() <= LONGEST + 3);
    }
}

//! Decoders of others, on bytes that nobody may have written: what panics in them is an error here.
//!
//! Arrow's and Parquet's readers check most of what they read, and panic where they find it out too late. A damaged file
//! does not come so far, because its digest is looked at first; what users send, and what was written with a digest of its
//! own, may.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `decode` gives; what it said if it panicked. Nothing that it was given may be used after that.
pub fn guard<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decode)).map_err(|panic| said(&*panic))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason was given");
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_in_one_line() {
        assert_eq!(guard(|| 5), Ok(5));
        assert_eq!(
            guard(|| -> u8 { panic!("no such type\nas {}", 7) }),
            Err("no such type as 7".to_string())
        );
    }
}

//! Decoders of others, on bytes that nobody may have written: what panics in them is an error here.
//!
//! Arrow's and Parquet's readers check most of what they read, and panic where they find it out too late. A damaged file
//! does not come so far, because its digest is looked at first; what users send, and what was written with a digest of its
//! own, may.

use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::root_as_message;
use std::any::Any;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a message of an IPC stream begins with, before the length of its metadata.
const CONTINUES: [u8; 4] = [0xff; 4];

/// What `decode` gives; what it said if it panicked. Nothing that it was given may be used after that.
pub fn guard<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decode)).map_err(|panic| said(&*panic))
}

/// A reader of an IPC stream whose messages all say that they are as long as they are: it takes memory for what a message
/// says before it looks whether there is so much.
///
/// # Errors
/// `ParseError` if one does not; those of the reader.
pub(crate) fn ipc_stream(bytes: &[u8]) -> Result<StreamReader<Cursor<&[u8]>>, ArrowError> {
    let mut left = bytes;
    while let Some(message) = ipc_message(left)? {
        left = &left[message..];
    }
    StreamReader::try_new(Cursor::new(bytes), None)
}

/// The length of the message that `bytes` begin with; `None` at the end of the stream.
fn ipc_message(bytes: &[u8]) -> Result<Option<usize>, ArrowError> {
    let short = || ArrowError::ParseError("an IPC message that is cut short".into());
    let head = if bytes.starts_with(&CONTINUES) { CONTINUES.len() } else { 0 };
    let Some((length, rest)) = bytes[head..].split_first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(i32::from_le_bytes(*length)).map_err(|_| short())?;
    if length == 0 {
        return Ok(None);
    }
    let metadata = rest.get(..length).ok_or_else(short)?;
    let message = root_as_message(metadata).map_err(|e| ArrowError::ParseError(e.to_string()))?;
    let body = usize::try_from(message.bodyLength()).map_err(|_| short())?;
    if body > rest.len() - length {
        return Err(short());
    }
    Ok(Some(head + 4 + length + body))
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

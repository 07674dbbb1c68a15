//! Unsigned integers in as few bytes as they need: seven bits a byte, the lowest first (LEB128).
//!
//! ```text
//! read(write(n)) = n, and write(read(bytes)) = bytes
//! ```
//!
//! The second holds because a longer form of the same number is refused: equal states have equal bytes.

const BITS: u32 = 7;
const MORE: u8 = 0x80;

/// Appends a number.
pub(super) fn write(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= u64::from(MORE) {
        bytes.push(number as u8 | MORE);
        number >>= BITS;
    }
    bytes.push(number as u8);
}

/// Takes a number off the front, or says what is wrong with the bytes.
pub(super) fn read(bytes: &mut &[u8]) -> Result<u64, &'static str> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(BITS as usize) {
        let (&byte, rest) = bytes.split_first().ok_or("it ends inside a number")?;
        *bytes = rest;
        let part = u64::from(byte & !MORE);
        if part << shift >> shift != part {
            return Err("a number has more than 64 bits");
        }
        number |= part << shift;
        if byte & MORE == 0 {
            let shortest = byte != 0 || shift == 0;
            return if shortest { Ok(number) } else { Err("a number is longer than it needs to be") };
        }
    }
    Err("a number has more than 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back() {
        for number in (0..64).flat_map(|shift| [1_u64 << shift, (1 << shift) - 1]).chain([u64::MAX]) {
            let mut bytes = Vec::new();
            write(&mut bytes, number);
            let mut rest = bytes.as_slice();
            assert_eq!((read(&mut rest), rest), (Ok(number), [].as_slice()));
        }
    }

    #[test]
    fn bytes_that_no_number_is_written_as_are_refused() {
        for bytes in [&[] as &[u8], &[0x80], &[0x80, 0], &[0xff; 10], &[0xff; 18]] {
            assert!(read(&mut &*bytes).is_err(), "{bytes:?}");
        }
    }
}

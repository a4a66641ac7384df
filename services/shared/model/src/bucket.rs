//! From an id to a row of an embedding table: the rule that published Prisms were trained with.
//!
//! Any string falls into one of `size` rows, and many share one: every title that ends in "2" reads row 2 of a table
//! larger than that. The item's row comes from its text, not from its id.

use md5::{Digest, Md5};

/// The row of `raw` in a table of `size` rows.
///
/// Surrounding white space does not count. Empty: row 0. All digits: their value modulo `size`. Digits at the end:
/// theirs. Otherwise the first eight hexadecimal digits of the MD5 of the UTF-8 text. Digits are those of any script,
/// and there may be any number of them.
pub fn bucket(raw: &str, size: usize) -> usize {
    if size == 0 {
        return 0;
    }
    let text = raw.trim_matches(is_space);
    if text.is_empty() {
        return 0;
    }
    let head = text.trim_end_matches(|c| decimal(c).is_some());
    let digits = &text[head.len()..];
    if !digits.is_empty() {
        let size = size as u128;
        return digits
            .chars()
            .filter_map(decimal)
            .fold(0, |value, digit| (value * 10 + u128::from(digit)) % size) as usize;
    }
    let hash = Md5::digest(text.as_bytes());
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) as usize % size
}

/// White space as Python's `str.strip` sees it: Unicode's, and the four separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The value of a decimal digit of any script (Unicode's category Nd).
fn decimal(c: char) -> Option<u32> {
    if c.is_ascii() {
        return c.to_digit(10);
    }
    let zero = match ZEROS.binary_search(&(c as u32)) {
        Ok(i) => ZEROS[i],
        Err(0) => return None,
        Err(i) => ZEROS[i - 1],
    };
    let value = c as u32 - zero;
    (value < 10).then_some(value)
}

/// The zero of every script's ten consecutive digits, beyond ASCII, in order (Unicode 14.0.0; the five styles of
/// mathematical digits follow one another).
const ZEROS: [u32; 65] = [
    0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xDE6, 0xE50, 0xED0,
    0xF20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50,
    0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10, 0x104A0, 0x10D30, 0x11066, 0x110F0,
    0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x11730, 0x118E0, 0x11950, 0x11C50,
    0x11D50, 0x11DA0, 0x16A60, 0x16AC0, 0x16B50, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140,
    0x1E2F0, 0x1E950, 0x1FBF0,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with the reference rule in Python (arbitrary integers, `hashlib`, `re`): text, size, row.
    const VECTORS: &[(&str, usize, usize)] = &[
        ("", 331845, 0),
        ("", 103912, 0),
        ("   ", 331845, 0),
        ("   ", 103912, 0),
        ("0", 331845, 0),
        ("0", 103912, 0),
        ("7", 331845, 7),
        ("7", 103912, 7),
        ("331845", 331845, 0),
        ("331845", 103912, 20109),
        ("331846", 331845, 1),
        ("331846", 103912, 20110),
        (" 42 ", 331845, 42),
        (" 42 ", 103912, 42),
        ("007", 331845, 7),
        ("007", 103912, 7),
        ("user_123", 331845, 123),
        ("user_123", 103912, 123),
        ("item-99999999999999999999", 331845, 27819),
        ("item-99999999999999999999", 103912, 78919),
        ("Heat", 331845, 321664),
        ("Heat", 103912, 68025),
        ("The Matrix", 331845, 72685),
        ("The Matrix", 103912, 27557),
        ("Toy Story 2", 331845, 2),
        ("Toy Story 2", 103912, 2),
        ("2001: A Space Odyssey", 331845, 277131),
        ("2001: A Space Odyssey", 103912, 13784),
        ("Matrix, The (1999)", 331845, 23472),
        ("Matrix, The (1999)", 103912, 43974),
        ("Blade Runner 2049", 331845, 2049),
        ("Blade Runner 2049", 103912, 2049),
        ("AXuI0ArbyGVhd5VQ8d1tOQ", 331845, 225311),
        ("AXuI0ArbyGVhd5VQ8d1tOQ", 103912, 43028),
        ("\u{e9}", 331845, 218119),
        ("\u{e9}", 103912, 41623),
        ("\u{65e5}\u{672c}\u{8a9e}", 331845, 121385),
        ("\u{65e5}\u{672c}\u{8a9e}", 103912, 77800),
        ("\u{ff11}\u{ff12}\u{ff13}", 331845, 123),
        ("\u{ff11}\u{ff12}\u{ff13}", 103912, 123),
        ("user_\u{663}\u{664}", 331845, 34),
        ("user_\u{663}\u{664}", 103912, 34),
        ("x\u{b2}", 331845, 266214),
        ("x\u{b2}", 103912, 35123),
        ("3 ", 331845, 3),
        ("3 ", 103912, 3),
        ("\u{a0}Heat\u{a0}", 331845, 321664),
        ("\u{a0}Heat\u{a0}", 103912, 68025),
        ("\u{1c}Heat\u{1f}", 331845, 321664),
        ("\u{1c}Heat\u{1f}", 103912, 68025),
        (
            "9999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999",
            331845,
            123324,
        ),
        (
            "9999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999",
            103912,
            72079,
        ),
        (
            "id12345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890",
            331845,
            229995,
        ),
        (
            "id12345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890",
            103912,
            44450,
        ),
        ("-5", 331845, 5),
        ("-5", 103912, 5),
        ("3.14", 331845, 14),
        ("3.14", 103912, 14),
        ("Se7en", 331845, 4057),
        ("Se7en", 103912, 38103),
        ("Ocean's Eleven\u{a}", 331845, 207530),
        ("Ocean's Eleven\u{a}", 103912, 79662),
        ("a1b", 331845, 107490),
        ("a1b", 103912, 103417),
    ];

    #[test]
    fn rows_are_those_of_the_reference() {
        for (text, size, row) in VECTORS {
            assert_eq!(bucket(text, *size), *row, "{text:?} in a table of {size}");
        }
    }

    #[test]
    fn a_number_of_ten_thousand_digits_is_reduced_like_any_other() {
        // 10^10000 − 1 modulo 9 is 0, modulo 7 is 10^(10000 mod 6) − 1 = 10^4 − 1 ≡ 3.
        let nines = "9".repeat(10_000);
        assert_eq!(bucket(&nines, 9), 0);
        assert_eq!(bucket(&nines, 7), 3);
    }

    proptest::proptest! {
        #[test]
        fn every_text_has_a_row_and_digits_at_the_end_decide_it(text in ".*", number: u32, size in 1_usize..400_000) {
            assert!(bucket(&text, size) < size);
            let last_is_digit = text.chars().last().is_some_and(|c| decimal(c).is_some());
            if !last_is_digit {
                assert_eq!(bucket(&format!("{text}{number}"), size), number as usize % size);
            }
        }
    }

    #[test]
    fn zeros_are_in_order_and_do_not_overlap() {
        assert!(ZEROS.windows(2).all(|pair| pair[0] + 10 <= pair[1]));
    }
}

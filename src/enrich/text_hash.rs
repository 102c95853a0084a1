//! A fingerprint that two copies of one text share.

use sha2::{Digest, Sha256};

/// SHA-256 of a normalised text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TextHash(pub [u8; 32]);

impl TextHash {
    /// 64 lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

/// The SHA-256 of the UTF-8 of `text` with each run of Unicode white space as one space, none at the ends, and lower
/// case after Unicode's default mapping per character. Stored: a change of this rule makes all old hashes useless.
pub fn text_hash(text: &str) -> TextHash {
    let mut hash = Sha256::new();
    let mut buffer = String::with_capacity(8 << 10);
    for (at, word) in text.split_whitespace().enumerate() {
        if at > 0 {
            buffer.push(' ');
        }
        for c in word.chars() {
            // By character, so that no context (such as a final sigma) makes the same letters differ.
            match c {
                'ς' => buffer.push('σ'),
                'ẞ' | 'ß' => buffer.push_str("ss"),
                c => buffer.extend(c.to_lowercase()),
            }
            if buffer.len() > (8 << 10) - 16 {
                hash.update(buffer.as_bytes());
                buffer.clear();
            }
        }
    }
    hash.update(buffer.as_bytes());
    TextHash(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn is_the_sha_256_of_the_normal_form() {
        // sha256("hello world")
        let known = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";
        assert_eq!(text_hash("hello world").hex(), known);
        assert_eq!(text_hash("\u{a0}Hello\n\t WORLD\u{3000}").hex(), known);
        assert_ne!(text_hash("helloworld"), text_hash("hello world"));
        assert_eq!(text_hash("ΟΔΟΣ STRASSE"), text_hash("οδος straße"));
    }

    proptest! {
        #[test]
        fn white_space_and_case_do_not_matter(words in proptest::collection::vec("[a-zäøж]{1,8}", 0..3000)) {
            let plain = words.join(" ");
            let other = format!("\n{}\t", words.join(" \u{2003}")).to_uppercase();
            prop_assert_eq!(text_hash(&plain), text_hash(&other));
        }
    }
}

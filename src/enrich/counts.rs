//! How long a text is.

use unicode_segmentation::UnicodeSegmentation;

/// Sizes of a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Words after Unicode's word boundaries (UAX 29) that hold a letter or digit. Scripts that put no space between
    /// words count by character: each ideograph, kana or Thai letter is one.
    pub words: usize,
    /// Runs of words that end in a sentence's end mark of any script, or with a line.
    pub sentences: usize,
    /// Unicode scalar values, white space included.
    pub chars: usize,
}

/// Counts `text` in linear time.
pub fn counts(text: &str) -> Counts {
    Counts { words: text.unicode_words().count(), sentences: sentences(text), chars: text.chars().count() }
}

/// An estimate: full stops inside numbers and abbreviations without a space after them do not count.
fn sentences(text: &str) -> usize {
    let mut found = 0;
    let mut has_word = false;
    let mut ended = false;
    for c in text.chars() {
        match c {
            // Full-width and other scripts' marks end a sentence without a space.
            '。' | '！' | '？' | '।' | '۔' | '؟' | '\n' => {
                found += usize::from(has_word);
                (has_word, ended) = (false, false);
            }
            '.' | '!' | '?' | '…' => ended = true,
            '"' | '\'' | ')' | ']' | '”' | '’' | '»' => {}
            c if c.is_whitespace() => {
                if ended {
                    found += usize::from(has_word);
                    has_word = false;
                }
                ended = false;
            }
            c => {
                has_word |= c.is_alphanumeric();
                ended = false;
            }
        }
    }
    found + usize::from(has_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_words_of_many_scripts() {
        assert_eq!(counts("It's 3.5 km, naïve — don't!").words, 5);
        assert_eq!(counts("我爱北京。").words, 4);
        assert_eq!(counts("Привет, мир").words, 2);
        assert_eq!(counts("… !? ").words, 0);
        assert_eq!(counts("aé\n").chars, 3);
    }

    #[test]
    fn counts_sentences() {
        assert_eq!(counts("One. Two! \"Three?\" Pi is 3.14 here").sentences, 4);
        assert_eq!(counts("一。二！三").sentences, 3);
        assert_eq!(counts("A heading\nA line.\n\n...").sentences, 2);
        assert_eq!(counts("").sentences, 0);
    }
}

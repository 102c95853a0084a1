//! Which language a text is in.

use whatlang::Lang;

/// A language and how sure it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Language {
    /// ISO 639-1, or 639-3 where the former has none. Written standards of Norwegian are all `no`.
    pub code: String,
    /// 0 to 1.
    pub confidence: f64,
}

/// Letters looked at; more make no difference and cost time.
const MAX_CHARS: usize = 20_000;
/// Letters below which trigrams guess: a text as short as that is what its page says it is.
const SHORT_CHARS: usize = 100;
/// Confidence given to a page's word without evidence from the text, for or against.
const DECLARED: f64 = 0.5;

/// The language of `text`, with what the page `declared` (any BCP 47 tag) as a second witness: it decides where the
/// text is short or the guess unsure, and raises confidence where both agree. A sure guess from a long text wins, for
/// pages often declare their template's language. None when neither says anything.
pub fn language(text: &str, declared: Option<&str>) -> Option<Language> {
    let declared = declared.and_then(normal);
    let end = text.char_indices().nth(MAX_CHARS).map_or(text.len(), |(at, _)| at);
    let sample = &text[..end];
    let letters = sample.chars().filter(|c| c.is_alphabetic()).take(SHORT_CHARS).count();
    let guess = whatlang::detect(sample).map(|info| {
        // A script of one language (Greek, Hangul) is sure however short the text is.
        let sure = info.confidence() >= 1.0 && info.script() != whatlang::Script::Latin;
        (iso_639_1(info.lang()), info.confidence(), info.is_reliable() && letters >= SHORT_CHARS || sure)
    });
    let own = |code: &str, confidence: f64| Language { code: code.to_owned(), confidence: confidence.clamp(0.0, 1.0) };
    match (guess, declared) {
        (None, None) => None,
        (None, Some(declared)) => Some(Language { code: declared, confidence: DECLARED }),
        // Nobody knows better, so a guess from few letters says how little it is worth.
        (Some((code, confidence, sure)), None) => {
            let worth = if sure { 1.0 } else { f64::from(u8::try_from(letters).unwrap_or(100)) / 100.0 };
            Some(own(code, confidence * worth))
        }
        (Some((code, confidence, _)), Some(declared)) if code == declared => {
            Some(own(code, 1.0 - (1.0 - confidence) * (1.0 - DECLARED)))
        }
        (Some((code, confidence, true)), Some(_)) => Some(own(code, confidence)),
        (Some((_, confidence, false)), Some(declared)) => {
            Some(Language { code: declared, confidence: DECLARED * (1.0 - confidence / 2.0) })
        }
    }
}

/// The primary subtag in the form that [`Language::code`] has.
fn normal(tag: &str) -> Option<String> {
    let primary = tag.trim().split(['-', '_']).next()?.to_ascii_lowercase();
    let plausible = (2..=3).contains(&primary.len()) && primary.bytes().all(|b| b.is_ascii_lowercase());
    if !plausible || matches!(primary.as_str(), "und" | "mul" | "zxx" | "mis") {
        return None;
    }
    Some(match (primary.as_str(), Lang::from_code(primary.as_str())) {
        ("nb" | "nn", _) => "no".to_owned(),
        ("zho" | "chi", _) => "zh".to_owned(),
        ("fas" | "per", _) => "fa".to_owned(),
        ("iw", _) => "he".to_owned(),
        (_, Some(lang)) => iso_639_1(lang).to_owned(),
        _ => primary,
    })
}

fn iso_639_1(lang: Lang) -> &'static str {
    match lang {
        Lang::Epo => "eo",
        Lang::Eng => "en",
        Lang::Rus => "ru",
        Lang::Cmn => "zh",
        Lang::Spa => "es",
        Lang::Por => "pt",
        Lang::Ita => "it",
        Lang::Ben => "bn",
        Lang::Fra => "fr",
        Lang::Deu => "de",
        Lang::Ukr => "uk",
        Lang::Kat => "ka",
        Lang::Ara => "ar",
        Lang::Hin => "hi",
        Lang::Jpn => "ja",
        Lang::Heb => "he",
        Lang::Yid => "yi",
        Lang::Pol => "pl",
        Lang::Amh => "am",
        Lang::Jav => "jv",
        Lang::Kor => "ko",
        Lang::Nob => "no",
        Lang::Dan => "da",
        Lang::Swe => "sv",
        Lang::Fin => "fi",
        Lang::Tur => "tr",
        Lang::Nld => "nl",
        Lang::Hun => "hu",
        Lang::Ces => "cs",
        Lang::Ell => "el",
        Lang::Bul => "bg",
        Lang::Bel => "be",
        Lang::Mar => "mr",
        Lang::Kan => "kn",
        Lang::Ron => "ro",
        Lang::Slv => "sl",
        Lang::Hrv => "hr",
        Lang::Srp => "sr",
        Lang::Mkd => "mk",
        Lang::Lit => "lt",
        Lang::Lav => "lv",
        Lang::Est => "et",
        Lang::Tam => "ta",
        Lang::Vie => "vi",
        Lang::Urd => "ur",
        Lang::Tha => "th",
        Lang::Guj => "gu",
        Lang::Uzb => "uz",
        Lang::Pan => "pa",
        Lang::Aze => "az",
        Lang::Ind => "id",
        Lang::Tel => "te",
        Lang::Pes => "fa",
        Lang::Mal => "ml",
        Lang::Ori => "or",
        Lang::Mya => "my",
        Lang::Nep => "ne",
        Lang::Sin => "si",
        Lang::Khm => "km",
        Lang::Tuk => "tk",
        Lang::Aka => "ak",
        Lang::Zul => "zu",
        Lang::Sna => "sn",
        Lang::Afr => "af",
        Lang::Lat => "la",
        Lang::Slk => "sk",
        Lang::Cat => "ca",
        Lang::Tgl => "tl",
        Lang::Hye => "hy",
        Lang::Cym => "cy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GERMAN: &str = "Der Regen fiel am dritten Tag auf die Hügel, und der Fluss stieg über seine Ufer. Die Leute \
        im Dorf trugen ihre Möbel in den ersten Stock und warteten auf die Feuerwehr.";

    fn code(text: &str, declared: Option<&str>) -> Option<String> {
        language(text, declared).map(|found| found.code)
    }

    #[test]
    fn a_long_text_speaks_for_itself() {
        assert_eq!(code(GERMAN, None).as_deref(), Some("de"));
        assert_eq!(code(GERMAN, Some("en-US")).as_deref(), Some("de"));
        let alone = language(GERMAN, None).map(|found| found.confidence);
        assert!(language(GERMAN, Some("de-AT")).map(|found| found.confidence) >= alone);
    }

    #[test]
    fn a_short_text_is_what_the_page_says() {
        assert_eq!(code("Home Page", Some("en")).as_deref(), Some("en"));
        assert_eq!(code("", Some("pt-BR")).as_deref(), Some("pt"));
        assert_eq!(code("12 34", None), None);
        assert_eq!(code("Καλημέρα κόσμε", Some("en")).as_deref(), Some("el"));
        assert!(language("Home Page", None).is_some_and(|found| found.confidence < 0.2));
    }

    #[test]
    fn codes_have_one_form() {
        assert_eq!(normal("deu").as_deref(), Some("de"));
        assert_eq!(normal("nn-NO").as_deref(), Some("no"));
        assert_eq!(normal("zh_Hant").as_deref(), Some("zh"));
        assert_eq!(normal("gsw").as_deref(), Some("gsw"));
        assert_eq!(normal("und"), None);
        assert_eq!(normal("english"), None);
    }
}

//! mBART's tokenizers: pieces, and beside every text the token of its language.
//!
//! Liu et al. 2020, arXiv 2001.08210; Tang et al. 2020, arXiv 2008.00401; HF `MBartTokenizer`, `MBart50Tokenizer`.

use super::base::{Base, Template};
use super::byte_level::DEFAULTS;
use super::settings::{Head, Settings};
use super::token::Token;
use super::unigram::{base64, charsmap, metaspace, model, pieces, unigram};
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;

/// The first 25 are those of mBART, all of them those of mBART-50.
const LANGUAGES: [&str; 52] = [
    "ar_AR", "cs_CZ", "de_DE", "en_XX", "es_XX", "et_EE", "fi_FI", "fr_XX", "gu_IN", "hi_IN", "it_IT",
    "ja_XX", "kk_KZ", "ko_KR", "lt_LT", "lv_LV", "my_MM", "ne_NP", "nl_XX", "ro_RO", "ru_RU", "si_LK",
    "tr_TR", "vi_VN", "zh_CN", "af_ZA", "az_AZ", "bn_IN", "fa_IR", "he_IL", "hr_HR", "id_ID", "ka_GE",
    "km_KH", "mk_MK", "ml_IN", "mn_MN", "mr_IN", "pl_PL", "ps_AF", "pt_XX", "sv_SE", "sw_KE", "ta_IN",
    "te_IN", "th_TH", "tl_XX", "uk_UA", "ur_PK", "xh_ZA", "gl_ES", "sl_SI",
];
const OF_MBART: usize = 25;

/// The language of texts whose files name none.
const ENGLISH: &str = "en_XX";

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Languages {
    /// A text, its end, its language.
    Mbart,
    /// A language, its text, the end.
    Mbart50,
}

impl Languages {
    fn codes(self) -> &'static [&'static str] {
        match self {
            Languages::Mbart => &LANGUAGES[..OF_MBART],
            Languages::Mbart50 => &LANGUAGES,
        }
    }

    /// What stands around a text of this language.
    fn template(self, language: &str, end: &str) -> Template {
        let (language, end) = (language.to_string(), end.to_string());
        match self {
            Languages::Mbart => Template::Around { before: Vec::new(), after: vec![end, language] },
            Languages::Mbart50 => Template::Around { before: vec![language], after: vec![end] },
        }
    }
}

/// The tokenizer, from `sentencepiece.bpe.model` or a `tokenizer.json`, and what stands around texts to be written, where
/// they are of another language (`tgt_lang`) than those that are read (`src_lang`).
pub fn mbart(
    dir: &Path,
    path: &Path,
    whole: Option<(&[u8], &Head)>,
    languages: Languages,
) -> Result<(Base, Option<Template>)> {
    let mut settings = Settings::read(dir, whole.map(|(_, head)| head))?;
    settings.mask_takes_spaces("<mask>")?;
    let role = |key: &str, default: &str| -> Result<String> {
        Ok(settings.role(key, Some(default))?.map_or(default.to_string(), |token| token.content))
    };
    let (pieces, charsmap) = match whole {
        Some((json, _)) => (pieces(path, json)?, charsmap(path, json)?),
        None => {
            let model = model(path)?;
            let specials =
                [("cls_token", "<s>"), ("pad_token", "<pad>"), ("eos_token", "</s>"), ("unk_token", "<unk>")];
            let mut pieces = Vec::new();
            for (key, default) in specials {
                pieces.push((role(key, default)?, 0.0));
            }
            // The model's own first three are the unknown piece and the ends.
            let own = model.pieces.iter().skip(3).map(|piece| (piece.text.clone(), f64::from(piece.score)));
            pieces.extend(own);
            pieces.extend(languages.codes().iter().map(|code| (code.to_string(), 0.0)));
            pieces.push((role("mask_token", "<mask>")?, 0.0));
            (pieces, (!model.charsmap.is_empty()).then(|| base64(&model.charsmap)))
        }
    };
    let language = |key: &str| -> Result<Option<String>> {
        let Some(code) = settings.text(key)? else { return Ok(None) };
        match pieces.iter().any(|(piece, _)| *piece == code) {
            true => Ok(Some(code)),
            false => {
                let known = languages.codes().join(", ");
                Err(settings.wrong(
                    key,
                    &format!("the vocabulary has no language {code:?}; the languages are {known}"),
                ))
            }
        }
    };
    let (source, target) = (language("src_lang")?.unwrap_or(ENGLISH.into()), language("tgt_lang")?);
    if !pieces.iter().any(|(piece, _)| *piece == source) {
        let what = format!(
            "has no piece {source:?}, the language of its texts; copy it again from the model's source"
        );
        return Err(Error::data(path.display(), what));
    }
    let end = role("eos_token", "</s>")?;
    let other = target.filter(|target| *target != source).map(|target| languages.template(&target, &end));
    let template = languages.template(&source, &end);
    let spaces = json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "});
    let normalizer = match (languages, charsmap) {
        (Languages::Mbart, _) => Value::Null,
        (Languages::Mbart50, None) => json!({"type": "Sequence", "normalizers": [spaces]}),
        (Languages::Mbart50, Some(map)) => {
            let map = json!({"type": "Precompiled", "precompiled_charsmap": map});
            json!({"type": "Sequence", "normalizers": [map, spaces]})
        }
    };
    let head = whole.map(|(_, head)| head);
    let mut json = unigram(normalizer, metaspace("always"), 3, pieces, head);
    if languages == Languages::Mbart {
        json["pre_tokenizer"] =
            json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace("always")]});
    }
    let extra = languages.codes().iter().map(|code| Token::new(code)).collect();
    Ok((Base { json: json.to_string().into_bytes(), settings, defaults: &DEFAULTS, extra, template }, other))
}

//! Flags that say how answers are generated; what they leave open, the model's own settings say.

use std::num::NonZeroUsize;
use std::path::Path;
use wattention::error::{Error, Result};
use wattention::generate::{EarlyStopping, GenerateOptions, Settings};
use wattention::models::Limits;

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Decoding (default: the model's generation_config.json)")]
pub struct Decoding {
    /// Tokens generated after the start token, at most [default: the model's, or 128, or the decoder's positions]
    #[arg(long, value_name = "TOKENS")]
    max_new_tokens: Option<NonZeroUsize>,

    /// The same with the start token counted
    #[arg(long, value_name = "TOKENS", conflicts_with = "max_new_tokens")]
    max_length: Option<NonZeroUsize>,

    /// Tokens generated before an answer may end
    #[arg(long, value_name = "TOKENS")]
    min_new_tokens: Option<usize>,

    /// The same with the start token counted
    #[arg(long, value_name = "TOKENS", conflicts_with = "min_new_tokens")]
    min_length: Option<usize>,

    /// Beams to search with; 1 takes the best token each time
    #[arg(long, value_name = "N")]
    num_beams: Option<NonZeroUsize>,

    /// Beam search: log-probabilities are divided by the length to this power
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    length_penalty: Option<f64>,

    /// Beam search: stop at as many answers as beams (true), when better ones are unlikely (false) or impossible (never)
    #[arg(long, value_name = "true|false|never", value_parser = EarlyStopping::named)]
    early_stopping: Option<EarlyStopping>,

    /// No sequence of so many tokens comes twice; 0 for no such rule
    #[arg(long, value_name = "N")]
    no_repeat_ngram_size: Option<usize>,

    /// The first token of every answer
    #[arg(long, value_name = "ID")]
    forced_bos_token_id: Option<i32>,

    /// The last token of an answer that gets to the maximum
    #[arg(long, value_name = "ID")]
    forced_eos_token_id: Option<i32>,

    /// Draw tokens instead of taking the best; --seed says which
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    do_sample: Option<bool>,

    /// Sampling: logits are divided by this
    #[arg(long, value_name = "X")]
    temperature: Option<f32>,

    /// Sampling: only so many most likely tokens; 0 for all [default: 50]
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,

    /// Sampling: only the most likely tokens that together have this probability
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
}

impl Decoding {
    /// With the settings of the model in `dir` where a flag is not given; `answers` of each input.
    pub fn options(
        &self,
        dir: &Path,
        limits: &Limits,
        seed: u64,
        answers: Option<NonZeroUsize>,
    ) -> Result<GenerateOptions> {
        let flags = Settings {
            max_length: self.max_length.map(NonZeroUsize::get),
            max_new_tokens: self.max_new_tokens.map(NonZeroUsize::get),
            min_length: self.min_length,
            min_new_tokens: self.min_new_tokens,
            num_beams: self.num_beams.map(NonZeroUsize::get),
            length_penalty: self.length_penalty,
            early_stopping: self.early_stopping,
            no_repeat_ngram_size: self.no_repeat_ngram_size,
            forced_bos_token_id: self.forced_bos_token_id,
            forced_eos_token_id: self.forced_eos_token_id.map(|token| vec![token]),
            num_return_sequences: answers.map(NonZeroUsize::get),
            do_sample: self.do_sample,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            ..Settings::default()
        };
        let options = flags.or(Settings::of_model(dir)?).options(limits, seed)?;
        self.check(&options)?;
        Ok(options)
    }

    /// Refuses flags that would change nothing.
    fn check(&self, options: &GenerateOptions) -> Result<()> {
        let sampling = [
            ("temperature", self.temperature.is_some()),
            ("top-k", self.top_k.is_some()),
            ("top-p", self.top_p.is_some()),
        ];
        let beams = [
            ("length-penalty", self.length_penalty.is_some()),
            ("early-stopping", self.early_stopping.is_some()),
        ];
        let given = |flags: &[(&'static str, bool)]| flags.iter().find(|flag| flag.1).map(|flag| flag.0);
        match (given(&sampling), given(&beams)) {
            (Some(flag), _) if options.sampling.is_none() => {
                Err(Error::usage(format!("--{flag} is for sampling; add --do-sample")))
            }
            (_, Some(flag)) if options.num_beams == 1 => {
                Err(Error::usage(format!("--{flag} is for beam search; add --num-beams with 2 or more")))
            }
            _ => Ok(()),
        }
    }
}

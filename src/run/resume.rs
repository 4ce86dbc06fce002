//! The checkpoint that a run resumes from.

use super::dir::{Existing, RunDir};
use super::observer::{Message, Observer};
use crate::error::{Error, Result};
use crate::train::checkpoint::{self, Checkpoint, Settings};
use std::path::Path;

impl RunDir {
    /// The checkpoint to resume from, if there is one and it is asked for; `settings` are those of the run.
    pub(super) fn find(
        &self,
        settings: &Settings,
        device: &str,
        observer: &mut dyn Observer,
    ) -> Result<Option<Checkpoint>> {
        let found = match &self.existing {
            Existing::Refuse | Existing::Replace => return Ok(None),
            Existing::Continue => {
                let found = self.newest(observer)?;
                return Ok(found.filter(|found| settings.check(&found.manifest.settings, "it").is_ok()));
            }
            Existing::Resume(wanted) if wanted == Path::new("auto") => self.newest(observer)?,
            Existing::Resume(wanted) => Some(self.named(wanted)?),
        };
        let Some(checkpoint) = found else {
            match self.settings()? {
                Some(then) => settings.check(&then, &format!("the run in {}", self.root().display()))?,
                None => self.check_empty()?,
            }
            let what = "there is no checkpoint to resume from: the run starts at the beginning";
            observer.message(Message::Note(what.into()));
            return Ok(None);
        };
        settings.check(&checkpoint.manifest.settings, &checkpoint.dir.display().to_string())?;
        observer.message(Message::Note(format!("resuming from {}", checkpoint.dir.display())));
        let (version, now) = (&checkpoint.manifest.version, env!("CARGO_PKG_VERSION"));
        for (what, then, now) in
            [("wattention", version.as_str(), now), ("device", &checkpoint.manifest.device, device)]
        {
            if then != now {
                observer.message(Message::Warning(format!(
                    "{what} was {then} and is {now}: the result may differ in its last bits from a run in one go"
                )));
            }
        }
        Ok(Some(checkpoint))
    }

    fn newest(&self, observer: &mut dyn Observer) -> Result<Option<Checkpoint>> {
        let found = checkpoint::newest(self.root())?;
        for why in &found.passed_over {
            observer.message(Message::Warning(format!("passed over a checkpoint: {why}")));
        }
        Ok(found.checkpoint)
    }

    fn named(&self, path: &Path) -> Result<Checkpoint> {
        let checkpoint = checkpoint::open(path)?;
        let parent = |path: &Path| path.canonicalize().ok()?.parent().map(Path::to_path_buf);
        match parent(path) == self.root().canonicalize().ok() {
            true => Ok(checkpoint),
            false => Err(Error::usage(format!(
                "--resume {}: not a checkpoint of --output-dir {}; to start a new run from its weights, give it as --model",
                path.display(),
                self.root().display()
            ))),
        }
    }
}

//! Profiles kept per user, one file per machine, and plans made from them.
//!
//! A file that is damaged, of another machine or of another version is ignored with a warning and written anew. Writers
//! take turns by a lock file, add to what is there, and put the new file in place in one step, so that readers see either
//! the old or the new one, and a full disk leaves the old one.

use super::machine::Machine;
use super::profile::{Profile, ProfileError};
use super::signature::hash_text;
use crate::plan::{Plan, PlannedInput};
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// A folder of profiles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProfileCache(PathBuf);

impl ProfileCache {
    /// The user's: `$XDG_CACHE_HOME/recurve`, else `~/.cache/recurve`; `None` where neither is known.
    pub fn user() -> Option<Self> {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
        Some(Self(cache.join("recurve")))
    }

    /// A folder, which is made when something is stored.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// The file of this machine's profile.
    pub fn file(&self) -> PathBuf {
        self.0.join(format!("profile-{}.json", Machine::here().fingerprint()))
    }

    /// What is known of this machine; nothing where there is no file that can be used.
    pub fn load(&self) -> Profile {
        let path = self.file();
        let read = Profile::read(&path).and_then(|profile| profile.check_here().map(|()| profile));
        match read {
            Ok(profile) => profile,
            Err(ProfileError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Profile::empty(),
            Err(error) => {
                let path = path.display();
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(%path, error, "the cached profile cannot be used and is measured anew");
                Profile::empty()
            }
        }
    }

    /// The file in which [`Mode::Latency`](crate::settings::Mode::Latency) keeps a plan for the same model, shapes, threads
    /// and machine as `plan`.
    pub fn plan_file(&self, plan: &Plan) -> PathBuf {
        self.plan_path(&plan.model, &plan.inputs, plan.workers)
    }

    fn plan_path(&self, model: &str, inputs: &[PlannedInput], workers: usize) -> PathBuf {
        let what = format!("{model} {inputs:?} {workers} {}", Machine::here().fingerprint());
        self.0.join(format!("plan-{}.json", hash_text(&what)))
    }

    /// The plan that was kept for this, if it was made from `profile`.
    pub(crate) fn load_plan(
        &self,
        model: &str,
        inputs: &[PlannedInput],
        workers: usize,
        profile: &Profile,
    ) -> Option<Plan> {
        let path = self.plan_path(model, inputs, workers);
        let text = fs::read_to_string(&path).ok()?;
        match Plan::from_json(&text) {
            Ok(plan) => (plan.profile == profile.hash()).then_some(plan),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "the kept plan cannot be used and is made anew");
                None
            }
        }
    }

    /// Keeps a plan.
    pub(crate) fn store_plan(&self, plan: &Plan) -> Result<(), ProfileError> {
        let path = self.plan_file(plan);
        let failed = |source| ProfileError::Io { path: path.clone(), source };
        let _turn = self.turn().map_err(failed)?;
        replace(&path, plan.to_json().as_bytes()).map_err(failed)
    }

    /// The right to write, held until it is dropped; the system gives it back if this process ends before.
    fn turn(&self) -> std::io::Result<File> {
        fs::create_dir_all(&self.0)?;
        let turn = File::create(self.0.join("lock"))?;
        turn.lock()?;
        Ok(turn)
    }

    /// Adds `profile`, measured on this machine, to what is known; the sum.
    ///
    /// # Example
    /// ```
    /// # let folder = std::env::temp_dir().join(format!("recurve-cache-example-{}", std::process::id()));
    /// use recurve::profiles::{Profile, ProfileCache};
    /// let cache = ProfileCache::at(&folder);
    /// cache.store(&Profile::empty())?;
    /// assert_eq!(cache.load(), Profile::empty());
    /// # let _ = std::fs::remove_dir_all(&folder);
    /// # Ok::<(), recurve::profiles::ProfileError>(())
    /// ```
    pub fn store(&self, profile: &Profile) -> Result<Profile, ProfileError> {
        let path = self.file();
        let failed = |source| ProfileError::Io { path: path.clone(), source };
        let _turn = self.turn().map_err(failed)?;
        let mut all = self.load();
        all.merge(profile.clone());
        replace(&path, all.to_json().as_bytes()).map_err(failed)?;
        Ok(all)
    }
}

/// Writes `content` beside `path` and then puts it in its place.
fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let made = path.with_extension("new");
    let written = File::create(&made).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    let placed = written.and_then(|()| fs::rename(&made, path));
    if placed.is_err() {
        // It may be part of a file; the error that is told is the first.
        let _ = fs::remove_file(&made);
    }
    placed
}

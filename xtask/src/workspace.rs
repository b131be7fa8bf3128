//! The checkout as cargo sees it: its root, packages, targets, features and dependencies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process;

/// A checkout and what `cargo metadata` says of it.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) metadata: Metadata,
}

/// The part of `cargo metadata --format-version 1` that the tasks read.
#[derive(Debug, Default, Clone, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_members: Vec<String>,
    #[serde(default)]
    pub(crate) target_directory: PathBuf,
}

/// One package of the dependency graph, ours or another's.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
    pub(crate) features: BTreeMap<String, Vec<String>>,
    pub(crate) manifest_path: PathBuf,
    /// The `[package.metadata]` table.
    pub(crate) metadata: serde_json::Value,
}

/// One entry of a package's dependency tables.
#[derive(Debug, Default, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Set where the dependency lies in the workspace.
    pub(crate) path: Option<PathBuf>,
}

/// One library, binary, example, test or bench of a package.
#[derive(Debug, Default, Clone, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
}

impl Workspace {
    /// Reads the workspace that `cargo xtask` was called in.
    pub(crate) fn load() -> Result<Self> {
        let Some(manifest_dir) = std::env::var_os("CARGO_MANIFEST_DIR") else {
            bail!("CARGO_MANIFEST_DIR is not set: call this as `cargo xtask`");
        };
        let root =
            Path::new(&manifest_dir).parent().context("xtask lies in the workspace's root")?.to_owned();
        let output = process::cargo(&root)
            .args(["metadata", "--format-version", "1"])
            .stderr(std::process::Stdio::inherit())
            .output()
            .context("cannot start cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", output.status);
        }
        let metadata = serde_json::from_slice(&output.stdout).context("cannot read cargo metadata")?;
        Ok(Self { root, metadata })
    }
}

impl Metadata {
    /// The workspace's own packages.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// The workspace package that has a target of this kind (`bin`, `example`, …) and name.
    pub(crate) fn member_with_target(&self, kind: &str, name: &str) -> Option<&Package> {
        self.members().find(|package| package.has_target(kind, name))
    }
}

impl Package {
    pub(crate) fn has_target(&self, kind: &str, name: &str) -> bool {
        self.targets.iter().any(|target| target.name == name && target.kind.iter().any(|k| k == kind))
    }
}

//! A process that runs models with ONNX Runtime (`tests/onnxruntime/serve.py`, which describes the frames).

use anyhow::{Context, Result};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The process, which is started again after a crash.
#[derive(Debug)]
pub struct Server {
    python: PathBuf,
    script: PathBuf,
    running: Running,
}

#[derive(Debug)]
struct Running {
    child: Child,
    requests: BufWriter<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// What became of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The outputs in the form of the ONNX test data.
    Outputs(Vec<Vec<u8>>),
    /// It was not run, for this reason.
    Refused(String),
    /// The process ended.
    Crashed,
}

impl Server {
    /// Starts `script` with the interpreter `python`.
    pub fn start(python: &Path, script: &Path) -> Result<Self> {
        Ok(Self { python: python.into(), script: script.into(), running: Running::start(python, script)? })
    }

    /// Runs a model on values, both serialised.
    pub fn run(&mut self, model: &[u8], inputs: &[Vec<u8>]) -> Result<Answer> {
        let parts = std::iter::once(model).chain(inputs.iter().map(Vec::as_slice)).collect::<Vec<_>>();
        let Ok(mut answer) = self.running.exchange(&parts) else {
            // A process that is gone has nothing left to end.
            let _ = self.running.child.kill();
            self.running.child.wait()?;
            self.running = Running::start(&self.python, &self.script)?;
            return Ok(Answer::Crashed);
        };
        let reason = if answer.is_empty() { Vec::new() } else { answer.remove(0) };
        Ok(if reason.is_empty() {
            Answer::Outputs(answer)
        } else {
            Answer::Refused(String::from_utf8_lossy(&reason).into_owned())
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.running.child.kill();
        let _ = self.running.child.wait();
    }
}

impl Running {
    fn start(python: &Path, script: &Path) -> Result<Self> {
        let mut child = Command::new(python)
            .args(["-W", "ignore"])
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", python.display()))?;
        let requests = BufWriter::new(child.stdin.take().context("the process has no standard input")?);
        let answers = BufReader::new(child.stdout.take().context("the process has no standard output")?);
        Ok(Self { child, requests, answers })
    }

    fn exchange(&mut self, parts: &[&[u8]]) -> std::io::Result<Vec<Vec<u8>>> {
        self.requests.write_all(&(parts.len() as u32).to_le_bytes())?;
        for part in parts {
            self.requests.write_all(&(part.len() as u32).to_le_bytes())?;
            self.requests.write_all(part)?;
        }
        self.requests.flush()?;
        let count = self.number()?;
        (0..count)
            .map(|_| {
                let mut part = vec![0; self.number()? as usize];
                self.answers.read_exact(&mut part)?;
                Ok(part)
            })
            .collect()
    }

    fn number(&mut self) -> std::io::Result<u32> {
        let mut bytes = [0; 4];
        self.answers.read_exact(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }
}

//! What a run of hours asks of the rig besides: daemons that end by themselves, and memories that do not grow.

use std::process::ExitStatus;

use crate::rig::client::{Answer, Client};
use crate::rig::wire::{Capture, Frame};
use crate::rig::{Rig, index};

impl Rig {
    /// How the daemon ended by itself, told once.
    pub fn ended(&mut self, node: &str) -> Option<ExitStatus> {
        let status = self.daemons[index(node)].as_mut()?.try_wait().unwrap()?;
        self.daemons[index(node)] = None;
        Some(status)
    }

    /// The daemon was started and has not ended.
    pub fn runs(&mut self, node: &str) -> bool {
        self.daemons[index(node)].as_mut().is_some_and(|daemon| daemon.try_wait().unwrap().is_none())
    }
}

impl Client {
    /// All answers so far, which are then forgotten but for the last one.
    pub fn take(&self) -> Vec<Answer> {
        let mut answers = self.answers.lock().unwrap();
        let kept = answers.last().copied().into_iter().collect();
        std::mem::replace(&mut answers, kept)
    }
}

impl Capture {
    /// All frames so far, which are then forgotten but for the last one.
    pub fn take(&self) -> Vec<Frame> {
        let mut frames = self.frames.lock().unwrap();
        let kept = frames.last().copied().into_iter().collect();
        std::mem::replace(&mut frames, kept)
    }
}

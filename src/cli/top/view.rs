//! What the screen shows of the snapshots, and what keys change of it. Pure.

use std::collections::VecDeque;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::monitor::Snapshot;
use crate::topology::StageName;

/// Looks that a sparkline remembers.
const HISTORY: usize = 240;

/// A part of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pane {
    Stages,
    Partitions,
    Failures,
    Jobs,
}

impl Pane {
    /// In the order of Tab.
    pub const ALL: [Pane; 4] = [Pane::Stages, Pane::Partitions, Pane::Failures, Pane::Jobs];
}

/// What a key wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    GoOn,
    Quit,
}

/// The state of the screen.
#[derive(Debug, Clone)]
pub struct View {
    /// Where the log is, for the title.
    pub place: String,
    /// What is shown; None before the first look.
    pub snapshot: Option<Snapshot>,
    /// Records each stage was through with per second, oldest first.
    pub history: [VecDeque<f64>; StageName::ALL.len()],
    /// The stage whose partitions are shown, counted from 0.
    pub stage: usize,
    pub focus: Pane,
    /// First line shown of each pane that scrolls.
    pub scroll: [usize; Pane::ALL.len()],
    pub paused: bool,
    pub help: bool,
    /// Why the last look failed.
    pub trouble: Option<String>,
}

impl View {
    /// Before the first look.
    pub fn new(place: String) -> View {
        View {
            place,
            snapshot: None,
            history: Default::default(),
            stage: 0,
            focus: Pane::Stages,
            scroll: [0; 4],
            paused: false,
            help: false,
            trouble: None,
        }
    }

    /// Takes a snapshot. While paused, only the sparklines go on unseen.
    pub fn take(&mut self, snapshot: Snapshot) {
        for (history, stage) in self.history.iter_mut().zip(&snapshot.stages) {
            if let Some(rate) = stage.rate {
                history.push_back(rate.outward);
            }
            if history.len() > HISTORY {
                history.pop_front();
            }
        }
        self.trouble = None;
        if !self.paused || self.snapshot.is_none() {
            self.snapshot = Some(snapshot);
        }
    }

    /// Answers a key.
    pub fn key(&mut self, key: KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::GoOn;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if control => return Wish::Quit,
            // A key that is pressed while the help shows closes it.
            _ if self.help => self.help = false,
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(Pane::ALL.len() - 1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::PageDown => self.step(10),
            KeyCode::PageUp => self.step(-10),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            _ => {}
        }
        Wish::GoOn
    }

    fn turn(&mut self, by: usize) {
        self.focus = Pane::ALL[(self.focus as usize + by) % Pane::ALL.len()];
    }

    /// Selects another stage, or scrolls the pane that has the focus.
    fn step(&mut self, by: isize) {
        let last = self.lines(self.focus).saturating_sub(1);
        let at = match self.focus {
            Pane::Stages => &mut self.stage,
            pane => &mut self.scroll[pane as usize],
        };
        let before = *at;
        *at = before.saturating_add_signed(by).min(last);
        if self.focus == Pane::Stages && *at != before {
            self.scroll[Pane::Partitions as usize] = 0;
        }
    }

    /// Lines a pane has to show.
    pub fn lines(&self, pane: Pane) -> usize {
        let Some(s) = &self.snapshot else { return 0 };
        match pane {
            Pane::Stages => s.stages.len(),
            Pane::Partitions => {
                s.stages.get(self.stage).map_or(0, |s| s.topics.iter().map(|t| t.partitions.len()).sum())
            }
            Pane::Failures => s.failures.len(),
            Pane::Jobs => s.jobs.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::sample::snapshot;

    fn press(view: &mut View, keys: &[KeyCode]) -> Wish {
        let keys = keys.iter().map(|k| view.key(KeyEvent::from(*k)));
        keys.last().unwrap()
    }

    #[test]
    fn keys_select_scroll_pause_and_quit() {
        use KeyCode::{BackTab, Char, Down, End, Esc, Home, Tab, Up};
        let mut v = View::new(String::new());
        assert_eq!(press(&mut v, &[Down, End, Tab, Down, BackTab, Home]), Wish::GoOn, "nothing to show yet");
        v.take(snapshot());
        press(&mut v, &[Up, Char('j')]);
        assert_eq!((v.stage, v.focus), (1, Pane::Stages));
        press(&mut v, &[Down, Down, Down, Down]);
        assert_eq!(v.stage, 3);
        press(&mut v, &[Char('k'), Tab, Down]);
        assert_eq!((v.stage, v.focus, v.scroll), (2, Pane::Partitions, [0, 1, 0, 0]));
        press(&mut v, &[End]);
        assert_eq!(v.scroll[1], v.lines(Pane::Partitions) - 1);
        press(&mut v, &[BackTab, Up]);
        assert_eq!((v.stage, v.scroll[1]), (1, 0), "another stage, from its first line");
        press(&mut v, &[Tab, Tab, Tab, Tab]);
        assert_eq!(v.focus, Pane::Stages);
        assert_eq!(press(&mut v, &[Char('?'), Esc]), Wish::GoOn, "it closes the help");
        assert!(!v.help);
        assert_eq!(press(&mut v, &[Esc]), Wish::Quit);
        assert_eq!(press(&mut v, &[Char('q')]), Wish::Quit);
        assert_eq!(v.key(KeyEvent::new(Char('c'), KeyModifiers::CONTROL)), Wish::Quit);
    }

    #[test]
    fn while_paused_the_screen_stays_and_the_history_goes_on() {
        let mut v = View::new(String::new());
        let (first, mut second) = (snapshot(), snapshot());
        second.at += 1_000;
        v.take(first.clone());
        press(&mut v, &[KeyCode::Char('p')]);
        v.take(second.clone());
        assert_eq!((v.snapshot.as_ref(), v.history[0].len()), (Some(&first), 2));
        press(&mut v, &[KeyCode::Char('p')]);
        v.take(second.clone());
        assert_eq!(v.snapshot, Some(second.clone()));
        (0..1_000).for_each(|_| v.take(second.clone()));
        assert_eq!(v.history[0].len(), HISTORY);
    }
}

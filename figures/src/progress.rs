//! What is being done, on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A line on stderr that says what is being done, and how far that is; silent unless stderr is a terminal. It
/// is drawn only when it is told something, by the thread that tells: nothing runs beside what is being
/// timed.
pub struct Progress(ProgressBar);

impl Default for Progress {
    fn default() -> Progress {
        Progress::new()
    }
}

impl Progress {
    /// Nothing is shown until something is said.
    pub fn new() -> Progress {
        Progress(ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::stderr()))
    }

    /// What is being done, where nobody knows how long it takes.
    pub fn say(&self, text: &str) {
        if self.0.is_hidden() {
            return;
        }
        self.0.set_style(style("{msg:.78}"));
        self.0.set_message(text.to_string());
        self.0.tick();
    }

    /// What is being done, and which share of it is behind us.
    pub fn part(&self, text: &str, done: f64) {
        if self.0.is_hidden() {
            return;
        }
        self.0.set_style(style("{msg:.44} [{bar:24}] {percent:>3} %"));
        self.0.set_message(text.to_string());
        self.0.set_position((100.0 * done.clamp(0.0, 1.0)) as u64);
    }
}

fn style(template: &str) -> ProgressStyle {
    // a template of ours that indicatif refuses is shown as indicatif's own
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

//! What happens on an interrupt: files that are being made go, as if the command had failed.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Removes half-written files when the process is interrupted, and then lets it end by that signal, as shells
/// expect. Signals that whoever started the process told it to ignore (`nohup`, `&` in scripts) stay ignored;
/// a system that does not say which those are is taken to ignore that of a terminal that goes away.
pub(crate) fn clean_up_on_interrupt() {
    let ignored = ignored().unwrap_or(1 << (SIGHUP - 1));
    let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    // without handlers an interrupt leaves a file behind, and nothing else is wrong
    let Ok(mut signals) = Signals::new(wanted) else { return };
    std::thread::spawn(move || {
        for signal in signals.forever() {
            crate::files::abandon();
            if emulate_default_handler(signal).is_err() {
                std::process::exit(128 + signal);
            }
        }
    });
}

/// The signals that are ignored, a bit each, where the system says it.
fn ignored() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

//! What the numeric library and the allocator read from the environment when a process starts, and never again.
//!
//! candle's own threads wait for each other by spinning, as many as there are processors whatever rayon was told: on one
//! processor a step of a small model took twice as long. The allocator gives each tensor's pages back to the kernel and
//! asks for them anew; kept, and in large pages, a step takes a tenth less (both measured by `refract train speed`).

use std::process::Command;

/// Said by whoever started this program with settings of its own choice, us included.
const THREADS: &str = "CANDLE_NUM_THREADS";

/// Settings beside the number of threads. What the environment says already stands.
const SETTINGS: [(&str, &str); 2] = [
    ("MIMALLOC_PURGE_DELAY", "-1"),
    ("MIMALLOC_ALLOW_LARGE_OS_PAGES", "1"),
];

/// Becomes this program once more, with the settings. Where that cannot be done, training is slower and the same.
pub(super) fn settle(threads: usize) {
    if std::env::var_os(THREADS).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let mut again = Command::new(program);
    again.args(std::env::args_os().skip(1));
    again.env(THREADS, threads.to_string());
    for (name, value) in SETTINGS {
        if std::env::var_os(name).is_none() {
            again.env(name, value);
        }
    }
    become_it(&mut again);
}

#[cfg(unix)]
fn become_it(again: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    // Comes back only where it failed: the same process, its id, files and signals stay.
    let error = again.exec();
    eprintln!("warning: training with the usual settings, up to half as fast: {error}");
}

#[cfg(not(unix))]
fn become_it(_: &mut Command) {}

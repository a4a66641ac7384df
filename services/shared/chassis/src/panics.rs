//! A panic is logged with its place and counted, without its message: a message may carry a user's text.

use std::sync::Once;

/// Installs the hook, once for the process.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic
                .location()
                .map(|place| format!("{}:{}", place.file(), place.line()));
            let thread = std::thread::current();
            metrics::counter!("process_panics_total").increment(1);
            tracing::error!(
                location = place.as_deref().unwrap_or("unknown"),
                thread = thread.name().unwrap_or("unnamed"),
                "panicked"
            );
        }));
    });
}

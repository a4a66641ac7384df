//! Trainings side by side, each in a process of its own; their lines go through ours, and one that fails ends the others.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How often finished trainings are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs all commands at once and returns when all have ended well.
pub(super) fn run(commands: Vec<(&str, Command)>) -> Result<()> {
    let mut running = Running(Vec::new());
    let mut readers = Vec::new();
    for (name, mut command) in commands {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting the training of {name}"))?;
        running.0.push((name.to_owned(), child));
        let (_, child) = running.0.last_mut().context("a child was just pushed")?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        readers.extend(out.map(|out| thread::spawn(move || forward(out, &mut std::io::stdout()))));
        readers.extend(err.map(|err| thread::spawn(move || forward(err, &mut std::io::stderr()))));
    }
    running.wait()?;
    for reader in readers {
        // A reader ends with its pipe; that our own output is gone is no reason to lose a training.
        let _ended = reader.join();
    }
    Ok(())
}

/// Line by line, so that two trainings do not write into each other's.
fn forward(from: impl std::io::Read, to: &mut impl Write) {
    for line in BufReader::new(from).lines().map_while(std::result::Result::ok) {
        if writeln!(to, "{line}").is_err() {
            break;
        }
    }
}

/// Children that do not outlive this.
struct Running(Vec<(String, Child)>);

impl Running {
    fn wait(&mut self) -> Result<()> {
        loop {
            let mut running = 0;
            for (name, child) in &mut self.0 {
                match child.try_wait().with_context(|| format!("waiting for {name}"))? {
                    None => running += 1,
                    Some(status) if status.success() => {}
                    // Those that still run end with `self`.
                    Some(status) => bail!("training {name} failed ({})", told(status)),
                }
            }
            if running == 0 {
                return Ok(());
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            // It may have ended by itself just now.
            let _killed = child.kill();
            let _status = child.wait();
        }
    }
}

fn told(status: ExitStatus) -> String {
    status
        .code()
        .map_or_else(|| "it was stopped".to_owned(), |code| format!("exit {code}"))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn one_that_fails_ends_the_others_whichever_comes_first() {
        let long = "exec sleep 600";
        for scripts in [["exit 3", long], [long, "exit 3"]] {
            let begun = Instant::now();
            let commands = scripts.iter().map(|s| ("part", shell(s))).collect();
            let error = run(commands).expect_err("one fails");
            assert!(error.to_string().contains("exit 3"), "{error}");
            assert!(
                begun.elapsed() < Duration::from_secs(300),
                "the other was waited for"
            );
        }
    }

    #[test]
    fn all_that_end_well_are_waited_for() {
        run(vec![("a", shell("true")), ("b", shell("sleep 0.3"))]).expect("both end well");
    }
}

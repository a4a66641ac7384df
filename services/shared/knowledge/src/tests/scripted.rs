//! A server of Redis' protocol that answers by script, for what a real one cannot be made to do at the right moment.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::Secret;

pub(crate) struct Scripted {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    task: AbortHandle,
}

impl Scripted {
    /// `answer` gets a command's words and its own port, and gives the bytes of an answer; `None` is silence.
    pub(crate) async fn start(
        answer: impl Fn(&[String], u16) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                tokio::spawn(async move {
                    let mut socket = BufReader::new(socket);
                    while let Some(words) = command(&mut socket).await {
                        log.lock().unwrap().push(words.join(" "));
                        let Some(answer) = answer(&words, port) else {
                            continue;
                        };
                        if socket.get_mut().write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        })
        .abort_handle();
        Self { port, asked, task }
    }

    pub(crate) fn url(&self) -> Secret {
        Secret::new(format!("redis://{}", self.seed()))
    }

    pub(crate) fn seed(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// All commands so far, in the order in which they came.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `*2 $3 GET $1 a`: an array of strings.
async fn command(socket: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let count = number(socket, '*').await?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let mut word = vec![0; number(socket, '$').await? + 2];
        socket.read_exact(&mut word).await.ok()?;
        word.truncate(word.len() - 2);
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
    Some(words)
}

async fn number(socket: &mut BufReader<TcpStream>, mark: char) -> Option<usize> {
    let mut line = String::new();
    socket.read_line(&mut line).await.ok()?;
    line.trim_end().strip_prefix(mark)?.parse().ok()
}

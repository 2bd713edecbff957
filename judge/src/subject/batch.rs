//! The batch protocol: one program, many questions, no files. `spec/CONFORMANCE.md` describes it.
//!
//! The program first writes a line, `df11-batch 1` and the words of the tasks that it does. A
//! question is a byte, the task, and four of length, little-endian, then so many of input; an
//! answer is a byte, the code, and four of length, then the output or the reason.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tempfile::NamedTempFile;
use wait_timeout::ChildExt;

use super::child::{command, last_line, late, refusal};
use super::{Answer, INVALID, Limits, Subject, UNSUPPORTED};
use crate::vectors::Task;

/// The front of the first line.
const HELLO: &str = "df11-batch 1";

/// The most bytes of a first line.
const MOST_HELLO: usize = 256;

/// The argument that asks a program for the protocol.
const BATCH: &str = "--batch";

/// The byte that stands for a task.
fn number(task: Task) -> u8 {
    match task {
        Task::UnitDecode => 1,
        Task::UnitEncode => 2,
        Task::FrameDecode => 3,
        Task::ArchiveDecode => 4,
        Task::DeltaDecode => 5,
    }
}

/// Answers questions from one stream to another until the first ends: the program's side.
///
/// # Errors
///
/// If a stream fails, or a question is cut off or of no known task.
///
/// ```
/// use df11_judge::subject::{Ours, serve};
///
/// let (question, mut answers) = ([3, 1, 0, 0, 0, 0x89], Vec::new());
/// serve(&mut Ours, &question[..], &mut answers)?;
/// let line = answers.iter().position(|byte| *byte == b'\n').unwrap();
/// assert!(answers.starts_with(b"df11-batch 1 unit") && answers[line + 1] == 10);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn serve(subject: &mut dyn Subject, input: impl Read, output: impl Write) -> io::Result<()> {
    let (mut input, mut output) = (BufReader::new(input), BufWriter::new(output));
    let words: String = subject.tasks().iter().map(|task| format!(" {}", task.word())).collect();
    writeln!(output, "{HELLO}{words}")?;
    output.flush()?;
    let mut head = [0; 5];
    while input.read(&mut head[..1])? == 1 {
        input.read_exact(&mut head[1..])?;
        let [task, len @ ..] = head;
        let question = take(&mut input, u32::from_le_bytes(len))?;
        let task = Task::ALL.into_iter().find(|known| number(*known) == task);
        let task = task.ok_or_else(|| io::Error::other("a question of no known task"))?;
        let (code, body) = match subject.answer(task, &question).map_err(io::Error::other)? {
            Answer::Accepted(output) => (0, output),
            Answer::Invalid(why) => (INVALID, why.into_bytes()),
            Answer::Unsupported(why) => (UNSUPPORTED, why.into_bytes()),
            Answer::Crashed(why) => (1, why.into_bytes()),
        };
        let len = u32::try_from(body.len()).map_err(io::Error::other)?;
        output.write_all(&[code])?;
        output.write_all(&len.to_le_bytes())?;
        output.write_all(&body)?;
        output.flush()?;
    }
    Ok(())
}

/// Reads this many bytes, without believing that they are there.
fn take(from: &mut impl Read, len: u32) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if from.take(u64::from(len)).read_to_end(&mut bytes)? < len as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// A code and what belongs to it.
type Reply = io::Result<(u8, Vec<u8>)>;

/// A program that has been started.
#[derive(Debug)]
struct Running {
    child: Child,
    questions: Sender<Vec<u8>>,
    replies: Receiver<Reply>,
}

/// A program that answers many questions, and is started anew when it crashed.
#[derive(Debug)]
pub struct Batch {
    words: Vec<String>,
    limits: Limits,
    tasks: Vec<Task>,
    log: NamedTempFile,
    running: Option<Running>,
}

impl Batch {
    /// Starts a program, with `--batch` after its arguments.
    ///
    /// # Errors
    ///
    /// If it cannot be started, or does not say within the time limit what it does.
    pub fn start(program: &[String], limits: Limits) -> Result<Self, String> {
        let words = program.iter().cloned().chain([BATCH.to_owned()]).collect();
        Batch::of_words(words, limits)
    }

    /// Starts exactly these words.
    pub(crate) fn of_words(words: Vec<String>, limits: Limits) -> Result<Self, String> {
        let log = NamedTempFile::new().map_err(|error| format!("cannot create a temporary file: {error}"))?;
        let mut batch = Batch { words, limits, tasks: Vec::new(), log, running: None };
        batch.run()?;
        Ok(batch)
    }

    fn run(&mut self) -> Result<&mut Running, String> {
        let name = self.words.first().cloned().unwrap_or_default();
        let log = self.log.reopen().and_then(|log| log.set_len(0).map(|()| log));
        let log = log.map_err(|error| format!("cannot write a temporary file: {error}"))?;
        let mut child = command(&self.words, &self.limits)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("cannot talk to {name}"));
        };
        let (questions, asked) = channel::<Vec<u8>>();
        let (answered, replies) = channel();
        thread::spawn(move || talk(BufReader::new(from), to, &asked, &answered));
        let mut running = Running { child, questions, replies };
        match running.replies.recv_timeout(self.limits.time) {
            Ok(Ok((0, line))) => self.tasks = tasks(&line)?,
            other => {
                let why = match self.crashed(&mut running, other) {
                    Answer::Crashed(why) => why,
                    _ => "it ended".to_owned(),
                };
                return Err(format!("{name} does not say \"{HELLO}\" and what it does: {why}"));
            }
        }
        Ok(self.running.insert(running))
    }

    /// What became of a program that did not reply; it does not run on.
    fn crashed(&self, running: &mut Running, reply: Result<Reply, RecvTimeoutError>) -> Answer {
        if matches!(reply, Err(RecvTimeoutError::Timeout)) {
            let _ = running.child.kill();
            let _ = running.child.wait();
            return late(&self.limits);
        }
        // It closed its output, so it is about to end; if not, it is ended.
        let status = running.child.wait_timeout(Duration::from_secs(2)).ok().flatten();
        let _ = running.child.kill();
        let _ = running.child.wait();
        match status.map(|status| refusal(status, self.log.path())) {
            Some(Some(Answer::Crashed(how))) => Answer::Crashed(how),
            _ => {
                let last = last_line(self.log.path());
                Answer::Crashed(format!("ended without an answer: {last}").trim_end_matches(": ").to_owned())
            }
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            // Its input ends here, and so it should.
            drop(running.questions);
            if running.child.wait_timeout(Duration::from_millis(500)).ok().flatten().is_none() {
                let _ = running.child.kill();
                let _ = running.child.wait();
            }
        }
    }
}

impl Subject for Batch {
    fn tasks(&self) -> Vec<Task> {
        self.tasks.clone()
    }

    fn answer(&mut self, task: Task, input: &[u8]) -> Result<Answer, String> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => {
                self.run()?;
                self.running.take().ok_or("the program does not run")?
            }
        };
        let len = u32::try_from(input.len()).map_err(|_| "the input is too long")?;
        let question = [&[number(task)], &len.to_le_bytes()[..], input].concat();
        let _ = running.questions.send(question);
        let (code, body) = match running.replies.recv_timeout(self.limits.time) {
            Ok(Ok(reply)) => reply,
            other => return Ok(self.crashed(&mut running, other)),
        };
        self.running = Some(running);
        let text = |body: &[u8]| String::from_utf8_lossy(body).trim().to_owned();
        Ok(match code {
            0 => Answer::Accepted(body),
            INVALID => Answer::Invalid(text(&body)),
            UNSUPPORTED => Answer::Unsupported(text(&body)),
            _ => Answer::Crashed(format!("answered with code {code}: {}", text(&body))),
        })
    }
}

/// The tasks that a first line names.
fn tasks(line: &[u8]) -> Result<Vec<Task>, String> {
    let line = String::from_utf8_lossy(line);
    let wrong = || format!("a program for batches begins with \"{HELLO}\", not with {:?}", line.trim());
    let words = line.trim_end().strip_prefix(HELLO).ok_or_else(wrong)?;
    let tasks: Vec<Task> = Task::ALL
        .into_iter()
        .filter(|task| words.split_whitespace().any(|word| word == task.word()))
        .collect();
    if tasks.is_empty() { Err(wrong()) } else { Ok(tasks) }
}

/// Carries questions to a program and its replies back, until one of the two ends.
fn talk(mut from: impl Read, mut to: impl Write, asked: &Receiver<Vec<u8>>, answered: &Sender<Reply>) {
    let mut reply = hello(&mut from);
    loop {
        let ends = reply.is_err();
        if answered.send(reply).is_err() || ends {
            return;
        }
        let Ok(question) = asked.recv() else { return };
        reply = to.write_all(&question).and_then(|()| to.flush()).and_then(|()| {
            let mut head = [0; 5];
            from.read_exact(&mut head)?;
            let [code, len @ ..] = head;
            Ok((code, take(&mut from, u32::from_le_bytes(len))?))
        });
    }
}

/// The first line.
fn hello(from: &mut impl Read) -> Reply {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while line.len() < MOST_HELLO {
        from.read_exact(&mut byte)?;
        if byte == *b"\n" {
            return Ok((0, line));
        }
        line.push(byte[0]);
    }
    Ok((0, line))
}

//! Which commands make up a reproduction, for what was asked.

use std::path::{Path, PathBuf};

use anyhow::Result;
use refract_bundle::{Bundle, Role};

use crate::assets::{Assets, data_and_ranker};
use crate::cli::Reproduce;
use crate::digest;

/// Sizes of a run.
#[derive(Clone, Copy, Debug)]
struct Size {
    pairs: usize,
    width: usize,
    layers: usize,
    steps: Option<usize>,
    /// Ids of a student's own tokenizer at most.
    vocabulary: usize,
    /// Pairs that students are judged on.
    judged_max: usize,
    resamples: usize,
    runs: usize,
}

const FULL: Size = Size {
    pairs: 8_000,
    width: 128,
    layers: 2,
    steps: None,
    vocabulary: 6_000,
    judged_max: 1_000,
    resamples: 1_000,
    runs: 100,
};
const QUICK: Size = Size {
    pairs: 400,
    width: 64,
    layers: 1,
    steps: Some(60),
    vocabulary: 2_000,
    judged_max: 60,
    resamples: 200,
    runs: 10,
};

/// History items that a teacher's prompt shows, as published.
pub(super) const TEACHER_ITEMS_MAX: usize = 50;

/// A model that learns or is judged or timed.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) name: String,
    /// For people.
    pub(super) title: String,
    pub(super) bundle: PathBuf,
    pub(super) role: Role,
    /// Taught and judged on labels of which some are spoilt.
    noisy: bool,
    conditioned: bool,
}

impl Model {
    pub(super) fn training(&self) -> String {
        format!("train-{}", self.name)
    }

    pub(super) fn judgement(&self) -> String {
        format!("judge-{}", self.name)
    }

    pub(super) fn timing(&self) -> String {
        format!("speed-{}", self.name)
    }

    pub(super) fn digest(&self) -> Result<String> {
        digest::of_model(&self.bundle)
    }
}

pub(super) struct Plan<'a> {
    args: &'a Reproduce,
    size: Size,
    /// Where the teacher lies, if it lies here.
    teacher: Option<PathBuf>,
    /// The shipped Prism, where the shipped Oracle is the teacher: it is told the same facts.
    shipped: Option<PathBuf>,
}

impl<'a> Plan<'a> {
    pub(super) fn of(args: &'a Reproduce) -> Result<Self> {
        let base = if args.quick { QUICK } else { FULL };
        let elsewhere = args.endpoint.is_some();
        let assets = || Assets::find(args.data.assets.as_deref());
        let (teacher, shipped) = match &args.oracle {
            Some(oracle) => (Some(oracle.clone()), None),
            None if elsewhere => (None, None),
            None => (Some(assets()?.oracle()), Some(assets()?.prism())),
        };
        Ok(Self {
            args,
            size: Size {
                pairs: args.pairs.unwrap_or(base.pairs),
                width: args.width.unwrap_or(base.width),
                layers: args.layers.unwrap_or(base.layers),
                steps: args.steps.or(base.steps),
                ..base
            },
            teacher,
            shipped,
        })
    }

    pub(super) fn labels(&self) -> PathBuf {
        self.args.out.join("labels.jsonl")
    }

    pub(super) fn noisy_labels(&self) -> PathBuf {
        self.args.out.join("labels-noisy.jsonl")
    }

    pub(super) fn noise_key(&self) -> String {
        format!("noise {} {}", self.args.noise, self.args.seed)
    }

    pub(super) fn students(&self) -> Vec<Model> {
        let student = |name: &str, title: &str, conditioned, noisy| Model {
            name: name.to_owned(),
            title: title.to_owned(),
            bundle: self.args.out.join(name),
            role: Role::Prism,
            noisy,
            conditioned,
        };
        let mut students = vec![
            student("alone", "student, history and item alone", false, false),
            student("conditioned", "student, with knowledge", true, false),
        ];
        if self.args.noise > 0.0 {
            students.push(student("noisy", "student, taught spoilt labels", true, true));
        }
        students
    }

    fn shipped(&self) -> Option<Model> {
        Some(Model {
            name: "slots".to_owned(),
            title: "shipped Prism, with slots".to_owned(),
            bundle: self.shipped.clone()?,
            role: Role::Prism,
            noisy: false,
            conditioned: true,
        })
    }

    pub(super) fn judged(&self) -> Vec<Model> {
        self.students().into_iter().chain(self.shipped()).collect()
    }

    /// Models whose speed is measured: those that run here and differ in what they compute.
    pub(super) fn timed(&self) -> Vec<Model> {
        let teacher = self.teacher.clone().map(|bundle| Model {
            name: "teacher".to_owned(),
            title: "teacher".to_owned(),
            bundle,
            role: Role::Oracle,
            noisy: false,
            conditioned: false,
        });
        let students = self.students().into_iter().filter(|student| !student.noisy);
        teacher
            .into_iter()
            .chain(students)
            .chain(self.shipped())
            .collect()
    }

    pub(super) fn label(&self) -> Vec<String> {
        let args = self.args;
        let mut words = self.words(&["distill", "--json", "--part", "train,dev,test"]);
        push(&mut words, "--out", &self.labels());
        words.push(format!("--limit={}", self.size.pairs));
        for (flag, value) in [
            ("--oracle", &args.oracle),
            ("--credential-file", &args.credential_file),
        ] {
            if let Some(value) = value {
                push(&mut words, flag, value);
            }
        }
        for (flag, value) in [("--endpoint", &args.endpoint), ("--model", &args.model)] {
            if let Some(value) = value {
                words.extend([flag.to_owned(), value.clone()]);
            }
        }
        words.extend(["--seed".to_owned(), args.seed.to_string()]);
        words
    }

    /// Of the data that is labelled and of the teacher, where it lies here.
    pub(super) fn digest_of_label(&self) -> Result<String> {
        let (data, _) = data_and_ranker(&self.args.data)?;
        let teacher = self.teacher.as_deref().map(digest::of_model).transpose()?;
        Ok(digest::of([digest::of_data(&data)?, teacher.unwrap_or_default()]))
    }

    pub(super) fn train(&self, student: &Model) -> Vec<String> {
        let (args, size) = (self.args, self.size);
        let mut words = self.words(&["train", "prism", "--json"]);
        let labels = if student.noisy {
            self.noisy_labels()
        } else {
            self.labels()
        };
        push(&mut words, "--labels", &labels);
        push(&mut words, "--out", &student.bundle);
        let mode = if student.conditioned {
            "conditioned"
        } else {
            "alone"
        };
        words.extend(["--mode".to_owned(), mode.to_owned()]);
        match &args.from {
            Some(from) => push(&mut words, "--from", from),
            None => words.extend([
                format!("--width={}", size.width),
                format!("--layers={}", size.layers),
                format!("--vocabulary={}", size.vocabulary),
            ]),
        }
        if let Some(steps) = size.steps {
            words.push(format!("--steps={steps}"));
        }
        if let Some(most) = args.train_time_max {
            words.push(format!("--time-max={most}").replace(' ', ""));
        }
        words.extend([
            format!("--threads={}", args.threads),
            format!("--seed={}", args.seed),
        ]);
        words
    }

    pub(super) fn judge(&self, student: &Model) -> Vec<String> {
        let mut words = self.words(&["eval", "labels", "--json", "--part", "test"]);
        let labels = if student.noisy {
            self.noisy_labels()
        } else {
            self.labels()
        };
        push(&mut words, "--labels", &labels);
        push(&mut words, "--prism", &student.bundle);
        words.extend([
            format!("--limit={}", self.size.judged_max),
            format!("--resamples={}", self.size.resamples),
            format!("--seed={}", self.args.seed),
            "--show=8".to_owned(),
        ]);
        words
    }

    pub(super) fn time(&self, model: &Model, prompts: &Path) -> Vec<String> {
        let mut words: Vec<String> = ["eval", "speed", "--json"].map(str::to_owned).to_vec();
        push(&mut words, "--bundle", &model.bundle);
        push(&mut words, "--prompts", prompts);
        words.extend([
            format!("--runs={}", self.size.runs),
            format!("--threads={}", self.args.threads),
        ]);
        words
    }

    /// A command on the data set.
    fn words(&self, command: &[&str]) -> Vec<String> {
        let mut words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let data = &self.args.data;
        for (flag, value) in [("--data", &data.data), ("--assets", &data.assets)] {
            if let Some(value) = value {
                push(&mut words, flag, value);
            }
        }
        words
    }

    /// What a reader must know to judge the numbers.
    pub(super) fn notes(&self) -> Result<Vec<String>> {
        let args = self.args;
        let mut notes = vec![
            "Published: a teacher FLAN-T5-XXL of 11 thousand million parameters, a student BART-Base of 140 million, 24 times faster in a \
             tenth of the memory, and a student that leaves out errors of its teacher's. What stands below was measured with the models \
             named here and with nothing else."
                .to_owned(),
        ];
        notes.push(match (&self.teacher, &args.endpoint) {
            (Some(dir), _) => format!("Teacher: {}.", described(dir)?),
            (None, endpoint) => format!(
                "Teacher: {} at {}; its speed was not measured.",
                args.model.as_deref().unwrap_or("a model"),
                endpoint.as_deref().unwrap_or("an endpoint")
            ),
        });
        if self.shipped.is_some() {
            notes.push(
                "The shipped Oracle was itself taught by rule and states facts; it does not sample, so best of n is best of one, and the \
                 prompt is its bundle's own. A FLAN-T5 (--oracle DIR) or an endpoint is asked the published way: four samples, the best \
                 kept, one careful try where all are refused."
                    .to_owned(),
            );
        }
        for student in self.judged() {
            notes.push(format!("{}: {}.", student.title, described(&student.bundle)?));
        }
        if args.noise > 0.0 {
            notes.push(format!(
                "For the spoilt labels, in {:.0} % of all pairs a sentence of another pair's label was put into the teacher's text, by the seed.",
                args.noise * 100.0
            ));
        }
        let data = args.data.data.as_ref().map_or_else(
            || "the shipped films with their synthetic users".to_owned(),
            |dir| {
                dir.file_name()
                    .unwrap_or(dir.as_os_str())
                    .to_string_lossy()
                    .into_owned()
            },
        );
        notes.push(format!(
            "Data: {data}; split by time, no user in two parts; at most {} pairs. All judged users are of the test part. Seed {}. Every model ran \
             with {} thread(s) on the same processor{}.",
            self.size.pairs,
            args.seed,
            args.threads,
            processor().map_or_else(String::new, |name| format!(" ({name})"))
        ));
        Ok(notes)
    }
}

fn push(words: &mut Vec<String>, flag: &str, value: &Path) {
    words.extend([flag.to_owned(), value.display().to_string()]);
}

/// `slot-oracle, a T5 of 1.2 million parameters`.
fn described(dir: &Path) -> Result<String> {
    let bundle = Bundle::open(dir)?;
    let config = refract_model::Config::read(dir)?;
    let kind = match &config {
        refract_model::Config::T5(_) => "T5",
        refract_model::Config::Bart(_) => "BART",
    };
    let millions = refract_model::Stored::open(dir)?.spec().parameters as f64 / 1e6;
    Ok(format!(
        "{}, a {kind} of {millions:.1} million parameters",
        bundle.manifest().name
    ))
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

//! What a configuration file, an environment and flags say, and what they may not say.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Service {
    name: String,
    share: f64,
    nested: Nested,
    mode: Mode,
    places: Vec<String>,
    sizes: Vec<u16>,
    limit: Option<u32>,
    labels: BTreeMap<String, i64>,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Nested {
    #[serde(with = "humantime_serde")]
    wait: Duration,
    calls_max: u32,
    enabled: bool,
    url: String,
    password: String,
}

impl Default for Nested {
    fn default() -> Self {
        Self {
            wait: Duration::from_millis(250),
            calls_max: 7,
            enabled: false,
            url: String::new(),
            password: String::new(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Plain,
    Scaled {
        by: f64,
    },
    Named(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Rule {
    path: String,
    #[serde(default)]
    weight: i32,
}

fn file(text: &str) -> (tempfile::TempDir, Sources) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("refract.toml");
    std::fs::write(&path, text).unwrap();
    (folder, Sources::new().file(path))
}

fn from_file(text: &str) -> Result<Service, String> {
    let (_folder, sources) = file(text);
    load(&sources).map_err(|error| error.to_string())
}

fn from_environment(variables: &[(&str, &str)]) -> Result<Service, String> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(&Sources::new().environment(variables)).map_err(|error| error.to_string())
}

fn from_flags(flags: &[&str]) -> Result<Service, String> {
    load(&Sources::new().overrides(flags.iter().copied())).map_err(|error| error.to_string())
}

#[test]
fn nothing_said_means_the_defaults() {
    assert_eq!(load::<Service>(&Sources::new()).unwrap(), Service::default());
    assert_eq!(from_file("").unwrap(), Service::default());
}

#[test]
fn later_sources_win_key_by_key() {
    let (_folder, sources) =
        file("name = \"file\"\nshare = 0.5\n[nested]\nwait = \"1s 500ms\"\ncalls_max = 1_000\n");
    let sources = sources
        .environment([
            ("REFRACT_NESTED__CALLS_MAX".to_owned(), "2".to_owned()),
            ("REFRACT_NAME".to_owned(), "environment".to_owned()),
            ("HOME".to_owned(), "/nowhere".to_owned()),
        ])
        .overrides(["name=flag"]);
    let service: Service = load(&sources).unwrap();
    assert_eq!((service.name.as_str(), service.share), ("flag", 0.5));
    assert_eq!(
        (service.nested.wait, service.nested.calls_max),
        (Duration::from_millis(1500), 2)
    );
}

#[test]
fn text_is_read_as_the_type_that_is_wanted() {
    let service = from_environment(&[
        ("REFRACT_SHARE", "1"),
        ("REFRACT_NAME", "123"),
        ("REFRACT_NESTED__ENABLED", "yes"),
        ("REFRACT_NESTED__WAIT", "2m"),
        ("REFRACT_MODE", "plain"),
        ("REFRACT_PLACES", "a:1, b:2"),
        ("REFRACT_SIZES", "[1, 2, 3]"),
        ("REFRACT_LIMIT", "9"),
        ("REFRACT_LABELS__BLUE", "-4"),
    ])
    .unwrap();
    assert_eq!(service.share, 1.0);
    assert_eq!(service.name, "123");
    assert!(service.nested.enabled);
    assert_eq!(service.nested.wait, Duration::from_secs(120));
    assert_eq!(service.places, ["a:1", "b:2"]);
    assert_eq!(service.sizes, [1, 2, 3]);
    assert_eq!(service.limit, Some(9));
    assert_eq!(service.labels["blue"], -4);
}

#[test]
fn enums_tables_and_lists_of_tables_are_read() {
    let service = from_file(
        "mode = { scaled = { by = 2 } }\n[[rules]]\npath = \"a\"\n[[rules]]\npath = \"b\"\nweight = -1\n[labels]\nx = 1\n",
    )
    .unwrap();
    assert_eq!(service.mode, Mode::Scaled { by: 2.0 });
    assert_eq!(service.rules.len(), 2);
    assert_eq!(
        from_flags(&["mode.named=x=y"]).unwrap().mode,
        Mode::Named("x=y".to_owned())
    );
}

#[test]
fn every_mistake_in_a_file_names_file_line_key_and_what_to_do() {
    for (text, expected) in [
        (
            "nmae = \"x\"",
            vec!["nmae: unknown key; did you mean name?", "refract.toml, line 1"],
        ),
        (
            "\n\n[nested]\ncals_max = 1",
            vec!["nested.cals_max: unknown key; did you mean calls_max?", "line 4"],
        ),
        (
            "[nested.deeper]\nx = 1",
            vec![
                "nested.deeper: unknown key; known keys are wait, calls_max",
                "line 1",
            ],
        ),
        (
            "[nested]\nwait = 5",
            vec![
                "nested.wait: invalid type: integer `5`, expected a duration",
                "line 2",
            ],
        ),
        ("[nested]\nwait = \"5 parsecs\"", vec!["nested.wait: ", "line 2"]),
        (
            "[nested]\ncalls_max = -1",
            vec![
                "nested.calls_max: invalid value: integer `-1`, expected u32",
                "line 2",
            ],
        ),
        (
            "[nested]\ncalls_max = \"7\"",
            vec!["nested.calls_max: invalid type: string \"7\", expected u32"],
        ),
        (
            "name = 7",
            vec!["name: invalid type: integer `7`, expected a string"],
        ),
        (
            "mode = \"fancy\"",
            vec!["mode: \"fancy\" is not one of plain, scaled, named", "line 1"],
        ),
        (
            "mode = \"named\"",
            vec!["mode: named needs a value: { named = … }"],
        ),
        ("sizes = [1, 99999]", vec!["sizes[1]: ", "99999", "line 1"]),
        (
            "[[rules]]\nweight = 1",
            vec!["rules[0].path: required, but not set", "line 1"],
        ),
        (
            "nested = 1",
            vec!["nested: invalid type: integer `1`, expected struct Nested"],
        ),
        (
            "name = \"a\"\nname = \"b\"",
            vec!["refract.toml is not TOML: line 2: duplicate key"],
        ),
        ("name = ", vec!["refract.toml is not TOML: line 1: "]),
    ] {
        let error = from_file(text).expect_err(text);
        for part in expected {
            assert!(error.contains(part), "{text:?}: {error:?} lacks {part:?}");
        }
    }
}

#[test]
fn every_mistake_elsewhere_names_its_variable_or_flag() {
    for (error, expected) in [
        (
            from_environment(&[("REFRACT_NESTED__CALLS_MAXX", "1")]),
            "nested.calls_maxx: unknown key; did you mean calls_max? (from the environment variable \
             REFRACT_NESTED__CALLS_MAXX)",
        ),
        (
            from_environment(&[("REFRACT_NESTED__CALLS_MAX", "many")]),
            "nested.calls_max: invalid type: string \"many\", expected u32 (from the environment variable",
        ),
        (
            from_environment(&[("REFRACT_NAME", "x"), ("REFRACT_NAME__DEEPER", "1")]),
            "name.deeper: name is a value, not a section",
        ),
        (
            from_flags(&["nested.enabled=maybe"]),
            "nested.enabled: invalid type: string \"maybe\", expected a boolean",
        ),
        (from_flags(&["unheard=1"]), "(from the override unheard=…)"),
        (
            from_flags(&["no-equals-sign"]),
            "the override \"no-equals-sign\" is not key=value",
        ),
        (from_flags(&["sizes=[1"]), "sizes: not a TOML array"),
    ] {
        let error = error.expect_err(expected);
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }
}

#[test]
fn an_orchestrators_variables_are_left_alone() {
    let service = from_environment(&[
        ("REFRACT_ORACLE_PORT_8101_TCP", "tcp://10.0.0.1:8101"),
        ("REFRACT_ORACLE_SERVICE_HOST", "10.0.0.1"),
        ("REFRACT_LOG", "debug"),
    ]);
    assert_eq!(service.unwrap(), Service::default());
}

#[test]
fn a_missing_file_is_named() {
    let error = load::<Service>(&Sources::new().file("nowhere/refract.toml")).unwrap_err();
    assert!(error.to_string().contains("nowhere/refract.toml"), "{error}");
}

#[test]
fn limits_that_do_not_fit_together_are_bad_configuration_too() {
    let check = |service: &Service| {
        refract_resilience::limits::ensure(
            service.nested.calls_max > 7,
            "nested.calls_max",
            "must be above 7",
        )
    };
    let error = load_checked::<Service>(&Sources::new(), check).unwrap_err();
    assert_eq!(error.to_string(), "nested.calls_max: must be above 7");
    assert_eq!(
        exit_code(&anyhow::Error::from(error).context("starting")),
        EXIT_BAD_CONFIG
    );
    assert_eq!(exit_code(&anyhow::anyhow!("something else")), 1);
}

#[test]
fn what_is_printed_loads_back_and_hides_credentials() {
    let mut service =
        from_file("mode = { scaled = { by = 2.5 } }\nplaces = [\"a\"]\n[[rules]]\npath = \"p\"").unwrap();
    assert_eq!(from_file(&render(&service).unwrap()).unwrap(), service);

    service.nested.url = "redis://user:word@cache:6379/0".to_owned();
    service.nested.password = "word".to_owned();
    let shown = render(&service).unwrap();
    assert!(!shown.contains("word\"") && !shown.contains("user"), "{shown}");
    assert!(shown.contains("redis://***@cache:6379/0"), "{shown}");
    assert!(shown.contains("wait = \"250ms\""), "{shown}");
}

proptest! {
    /// Whatever a flag says, loading ends with a value or with an error that names the flag's key.
    #[test]
    fn no_value_makes_loading_panic(
        key in prop::sample::select(vec!["name", "share", "nested.wait", "nested.calls_max", "mode", "sizes", "labels", "rules", "x.y"]),
        value in ".{0,24}",
    ) {
        if let Err(error) = load::<Service>(&Sources::new().overrides([format!("{key}={value}")])) {
            prop_assert!(error.to_string().contains(&format!("override {key}=")), "{}", error);
        }
    }

    #[test]
    fn durations_survive_printing_and_loading(millis in 0u64..10_000_000_000) {
        let mut service = Service::default();
        service.nested.wait = Duration::from_millis(millis);
        prop_assert_eq!(from_file(&render(&service).unwrap()).unwrap(), service);
    }
}

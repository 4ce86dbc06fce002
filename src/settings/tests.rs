use super::*;
use clap::Parser;

settings! {
    /// A few of each kind.
    #[serde(deny_unknown_fields)]
    pub struct Kinds {
        /// A rate
        #[arg(value_name = "X", alias = "lr", allow_negative_numbers = true)]
        learning_rate: f64 = 0.5, above 0;
        /// A share
        #[serde(alias = "share")]
        #[arg(allow_negative_numbers = true)]
        warmup_share: f64 = 0.25, at least 0 and below 1;
        /// A switch
        by_length: bool;
        /// Left open
        #[arg(value_name = "N")]
        patience: Option<u64>, at least 1;
    }
    elsewhere {
        batch: usize = 8, at least 1;
    }
}

settings! {
    /// All left open.
    pub struct Open: optional {
        /// A probability
        top_p: f64, above 0 and at most 1;
        /// A length
        #[arg(value_name = "N")]
        length: usize, at least 1;
    }
    elsewhere {
        pad: i32;
    }
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    kinds: Kinds,
    #[command(flatten)]
    open: Open,
}

fn read(flags: &str) -> Line {
    Line::parse_from(format!("x {flags}").split_whitespace())
}

#[test]
fn one_declaration_gives_flag_key_default_and_help() {
    assert_eq!(read("").kinds, Kinds::default());
    let given = read("--lr 2 --by-length --patience 3").kinds;
    assert_eq!((given.learning_rate, given.by_length, given.patience), (2.0, true, Some(3)));
    let read: Kinds = serde_json::from_str(r#"{"share": 0.75, "batch": 2}"#).unwrap();
    assert_eq!(read, Kinds { warmup_share: 0.75, batch: 2, ..Kinds::default() });
    assert!(serde_json::from_str::<Kinds>(r#"{"shares": 1}"#).is_err());
    let rows = Kinds::rows();
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, ["learning_rate", "warmup_share", "by_length", "patience", "batch"]);
    let first = Row {
        key: "learning_rate".into(),
        flag: Some("--learning-rate".into()),
        help: "A rate".into(),
        default: Some("0.5".into()),
        aliases: vec!["lr".into()],
    };
    assert_eq!(rows[0], first);
    assert_eq!((&rows[3].default, &rows[4].flag), (&None, &None));
}

#[test]
fn values_outside_their_range_are_refused_by_the_name_of_their_flag() {
    let refused = |kinds: Kinds, text: &str| {
        let error = kinds.check_ranges().unwrap_err();
        assert_eq!((error.exit_code(), error.to_string()), (2, text.to_string()));
    };
    refused(read("--learning-rate 0").kinds, "--learning-rate is 0; it must be above 0");
    refused(read("--learning-rate nan").kinds, "--learning-rate is NaN; it must be above 0");
    refused(read("--learning-rate inf").kinds, "--learning-rate is inf; it must be above 0");
    let below_one = "it must be at least 0 and below 1";
    refused(read("--warmup-share 1").kinds, &format!("--warmup-share is 1; {below_one}"));
    refused(read("--warmup-share -0.5").kinds, &format!("--warmup-share is -0.5; {below_one}"));
    refused(read("--patience 0").kinds, "--patience is 0; it must be at least 1");
    refused(Kinds { batch: 0, ..Kinds::default() }, "--batch is 0; it must be at least 1");
    read("--warmup-share 0 --patience 1").kinds.check_ranges().unwrap();
    let open = |flags: &str| read(flags).open.out_of_range();
    assert_eq!(open("--top-p 1 --length 1"), None);
    let found = open("--top-p 1.5").unwrap();
    assert_eq!((found.key, found.range.to_string()), ("top_p", "above 0 and at most 1".into()));
}

#[test]
fn what_is_left_open_falls_to_the_next_source() {
    let file: Open = serde_json::from_str(r#"{"top_p": 0.5, "length": 9, "pad": 1, "more": 0}"#).unwrap();
    let both = read("--length 3").open.or(file);
    assert_eq!(both, Open { top_p: Some(0.5), length: Some(3), pad: Some(1) });
    assert_eq!(serde_json::to_string(&Open::default()).unwrap(), "{}");
    assert!(Open::rows().iter().all(|row| row.default.is_none()));
}

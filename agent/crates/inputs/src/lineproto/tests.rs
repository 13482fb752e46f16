use super::*;
use crate::testing::Bench;
use proptest::prelude::*;
use telemetry::SampleFlags;

fn shown(body: &str) -> (Vec<String>, Vec<String>, Parsed) {
    let mut bench = Bench::new();
    let (intake, parsed) = bench.fill(|out| parse(body.as_bytes(), &Options::default(), out));
    (bench.samples(&intake), bench.events(&intake), parsed)
}

fn samples(body: &str) -> Vec<String> {
    let (samples, events, parsed) = shown(body);
    assert_eq!((events.len(), parsed.errors), (0, vec![]), "{body}");
    samples
}

fn reason(body: &str) -> String {
    let (samples, events, parsed) = shown(body);
    assert_eq!((samples.len(), events.len()), (0, 0), "{body}");
    assert_eq!(parsed.refused, 1, "{body}");
    parsed.errors[0].reason.clone()
}

#[test]
fn a_field_becomes_a_sample_named_after_measurement_and_field() {
    assert_eq!(samples("m,site=a v=1 5"), [r#"m.v{site="a"} = 1 @5"#]);
    assert_eq!(
        samples("cpu,cpu=c0 user=1.5,sys=-2e3,n=7i,big=18446744073709551615u,up=true,down=F 9"),
        [
            r#"cpu.user{cpu="c0"} = 1.5 @9"#,
            r#"cpu.sys{cpu="c0"} = -2000 @9"#,
            r#"cpu.n{cpu="c0"} = 7 @9"#,
            r#"cpu.big{cpu="c0"} = 18446744073709552000 @9"#,
            r#"cpu.up{cpu="c0"} = 1 @9"#,
            r#"cpu.down{cpu="c0"} = 0 @9"#,
        ]
    );
}

#[test]
fn a_lone_field_called_value_takes_the_measurements_name() {
    assert_eq!(
        samples("temperature value=21.5 1\ntemperature value=22,raw=5 2\ntemperature value=23 3"),
        [
            "temperature = 21.5 @1",
            "temperature.value = 22 @2",
            "temperature.raw = 5 @2",
            "temperature = 23 @3",
        ]
    );
}

#[test]
fn telegrafs_host_names_the_device_where_no_device_is_named() {
    assert_eq!(samples("m,host=pi value=1 1"), [r#"m{device="pi",host="pi"} = 1 @1"#]);
    assert_eq!(samples("m,host=pi,device=d value=1 1"), [r#"m{device="d",host="pi"} = 1 @1"#]);
}

#[test]
fn a_text_field_becomes_an_event_beside_the_samples() {
    let (samples, events, parsed) = shown("app,host=h msg=\"said \\\"no\\\" \\\\ twice\",code=5i 7");
    assert_eq!(samples, [r#"app.code{device="h",host="h"} = 5 @7"#]);
    assert_eq!(events, [r#"app Info "said \"no\" \\ twice" field=msg host=h device=h @7"#]);
    // A tag that says how bad it is does so; another word stays what it is.
    let (_, events, _) = shown("app,severity=err msg=\"a\" 7\napp,level=sea msg=\"b\" 8");
    assert_eq!(events, ["app Error \"a\" field=msg @7", "app Info \"b\" field=msg level=sea @8"]);
    assert_eq!((parsed.taken, parsed.refused), (1, 0));
}

#[test]
fn escapes_stand_for_commas_spaces_and_equals_signs() {
    assert_eq!(samples(r"my\ m\,x,ta\ g=a\=b\,c fi\ e\=ld=1 3"), [r#"my m,x.fi e=ld{ta g="a=b,c"} = 1 @3"#]);
    // A backslash before anything else is a backslash: Windows paths.
    assert_eq!(samples(r"disk,path=C:\temp free=1 3"), [r#"disk.free{path="C:\\temp"} = 1 @3"#]);
}

#[test]
fn comments_blank_lines_carriage_returns_and_spaces_are_passed_over() {
    let body = "# a comment, with=things 5\n\n  \r\nm v=1 1\r\n   m v=2   2  \r\n#\nm  v=3\t";
    let (samples, _, parsed) = shown(body);
    assert_eq!(samples, ["m.v = 1 @1", "m.v = 2 @2"]);
    assert_eq!(parsed.errors[0].line, 7);
}

#[test]
fn a_line_without_a_time_gets_that_of_arrival_and_a_mark() {
    let mut bench = Bench::new();
    let (intake, _) = bench.fill(|out| parse(b"m v=1\nm v=2 5", &Options::default(), out));
    assert_eq!(intake.times, [intake.stamp.wall, 5]);
    assert_eq!(intake.flags, [SampleFlags::ARRIVAL_TIME, 0]);
}

#[test]
fn every_precision_is_taken_and_an_overflow_refused() {
    for (precision, factor) in
        [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000)]
    {
        let mut bench = Bench::new();
        let options =
            Options { precision: Precision::from_parameter(precision).unwrap(), ..Options::default() };
        let (intake, _) =
            bench.fill(|out| parse(b"m v=1 -7\nm v=1 9223372036854775807\nm v=1 1", &options, out));
        let expected = if factor == 1 { vec![-7, i64::MAX, 1] } else { vec![-7 * factor, factor] };
        // i64::MAX nanoseconds is far in the future, so it is refused in every precision.
        assert_eq!(intake.times, expected.into_iter().filter(|time| *time != i64::MAX).collect::<Vec<_>>());
        assert_eq!(intake.counts.get(Cause::RejectedTime), 1);
    }
}

#[test]
fn each_refusal_says_why() {
    for (line, why) in [
        ("m", "missing fields"),
        ("m ", "missing fields"),
        ("m v", "missing field value"),
        ("m v=", "missing field value"),
        ("m v= 5", "missing field value"),
        ("m =1", "missing field key"),
        (",a=b v=1", "missing measurement"),
        ("m,=b v=1", "missing tag key"),
        ("m,a= v=1", "missing tag value"),
        ("m,a v=1", "missing tag value"),
        ("m,a=b=c v=1", "invalid tag format"),
        ("m,a=b,a=c v=1", "label \"a\" is given twice"),
        ("m v=abc", "invalid field value"),
        ("m v=1x", "invalid number"),
        ("m v=1.5i", "not a whole number"),
        ("m v=9223372036854775808i", "not a whole number"),
        ("m v=-1u", "not a whole number"),
        ("m v=tru", "invalid boolean"),
        ("m v=-inf", "not finite"),
        ("m v=1e999", "not finite"),
        ("m v=nano", "invalid field value"),
        ("m v=NaNi", "invalid field value"),
        ("m v=in", "invalid field value"),
        ("m v=\"abc", "unbalanced quotes"),
        ("m v=1 12x", "bad timestamp"),
        ("m v=1 -", "bad timestamp"),
        ("m v=1 99999999999999999999", "time outside range"),
        ("m v=1,", "missing fields"),
        ("m a b=1", "must be escaped"),
        ("m\u{1},a=b v=1", "control character"),
    ] {
        assert!(reason(line).contains(why), "{line:?}: {}", reason(line));
    }
}

#[test]
fn the_words_for_what_is_no_number_are_counted_as_not_finite() {
    let mut bench = Bench::new();
    for word in ["NaN", "nan", "-NaN", "Inf", "inf", "+Inf", "-inf", "Infinity", "-INFINITY", "1e999"] {
        for line in [format!("m v={word}"), format!("m a=1,v={word},b=2 5")] {
            let (intake, parsed) = bench.fill(|out| parse(line.as_bytes(), &Options::default(), out));
            assert_eq!(intake.counts.get(Cause::RejectedNotFinite), 1, "{line}");
            assert_eq!((intake.len(), parsed.refused), (0, 1), "{line}");
        }
    }
}

#[test]
fn a_bad_line_leaves_the_others_and_is_named_by_number() {
    let (samples, _, parsed) = shown("m v=1 1\nm v= 2\nm note=\"two\nlines\" 3\nbad\nm v=4 4");
    assert_eq!(samples, ["m.v = 1 @1", "m.v = 4 @4"]);
    assert_eq!(parsed.errors.iter().map(|error| error.line).collect::<Vec<_>>(), [2, 5]);
    assert_eq!((parsed.taken, parsed.refused), (3, 2));
}

#[test]
fn a_line_is_taken_as_a_whole_or_not_at_all() {
    let (samples, events, parsed) = shown("m a=1,b=2,c=x 5");
    assert_eq!((samples.len(), events.len(), parsed.refused), (0, 0, 1));
}

#[test]
fn bytes_that_are_not_text_are_refused_as_such() {
    let mut bench = Bench::new();
    for line in [&b"m\xff v=1"[..], b"m,a=\xff v=1", b"m \xff=1", b"m v=\"\xff\""] {
        let (intake, parsed) = bench.fill(|out| parse(line, &Options::default(), out));
        assert_eq!(intake.counts.get(Cause::RejectedEncoding), 1, "{line:?}");
        assert_eq!(parsed.refused, 1);
    }
}

#[test]
fn known_lines_in_another_order_and_with_fields_left_out_are_still_told_apart() {
    let mut bench = Bench::new();
    let first = b"m,a=1 x=1,y=2,z=3 1\nm,a=2 x=4 1\nn value=5 1";
    bench.fill(|out| parse(first, &Options::default(), out));
    let (intake, parsed) = bench.fill(|out| {
        parse(
            b"n value=6 2\nm,a=1 z=7,x=8 2\nm,a=2 x=9 2\nm,a=22 x=1 2\nm,a=1 xx=1 2",
            &Options::default(),
            out,
        )
    });
    assert_eq!(parsed.refused, 0);
    assert_eq!(
        bench.samples(&intake),
        [
            "n = 6 @2",
            r#"m.z{a="1"} = 7 @2"#,
            r#"m.x{a="1"} = 8 @2"#,
            r#"m.x{a="2"} = 9 @2"#,
            r#"m.x{a="22"} = 1 @2"#,
            r#"m.xx{a="1"} = 1 @2"#,
        ]
    );
    assert_eq!(intake.series.len(), 6);
}

#[test]
fn labels_given_beside_fill_what_the_tags_leave_open() {
    let mut bench = Bench::new();
    for (labels, expected) in [
        (&[("site", "s1"), ("device", "d1")][..], r#"m.v{device="d1",site="own"} = 1 @1"#),
        (&[("site", "s1"), ("device", "d2")][..], r#"m.v{device="d2",site="own"} = 1 @1"#),
        (&[][..], r#"m.v{site="own"} = 1 @1"#),
    ] {
        let options = Options { labels, ..Options::default() };
        let (intake, _) = bench.fill(|out| parse(b"m,site=own v=1 1", &options, out));
        assert_eq!(bench.samples(&intake), [expected]);
    }
}

#[test]
fn a_series_beyond_the_limit_is_refused_and_known_ones_go_on() {
    let mut bench = Bench::with_max_series(1);
    let (intake, parsed) = bench.fill(|out| parse(b"m v=1 1\nm w=1 1\nm v=2 2", &Options::default(), out));
    assert_eq!((intake.len(), parsed.refused), (2, 1));
    assert_eq!(intake.counts.get(Cause::RejectedSeriesLimit), 1);
}

/// What a writer may put into keys: anything but control characters and a backslash at places
/// where the protocol can't tell it from an escape.
fn key_text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 ,=\"#/.:µé日-]{1,12}"
        .prop_filter("not only spaces at the start", |text| !text.starts_with([' ', '#']))
}

fn escape(text: &str) -> String {
    text.replace(',', "\\,").replace('=', "\\=").replace(' ', "\\ ")
}

proptest! {
    #[test]
    fn any_keys_and_values_read_back_as_written(
        measurement in key_text(),
        tags in proptest::collection::btree_map(key_text(), key_text(), 0..4),
        fields in proptest::collection::btree_map(key_text(), any::<f64>().prop_filter("finite", |v| v.is_finite()), 1..5),
        text in "[^\\x00]{0,30}",
        time in -4_000_000_000_000_000_000_i64..1_700_000_000_000_000_000,
    ) {
        let mut line = escape(&measurement);
        for (tag, value) in &tags {
            line += &format!(",{}={}", escape(tag), escape(value));
        }
        line += " ";
        for (field, value) in &fields {
            line += &format!("{}={value:?},", escape(field));
        }
        line += &format!("text=\"{}\" {time}\n", text.replace('\\', "\\\\").replace('"', "\\\""));
        let mut bench = Bench::new();
        // Twice: by scanning, and by the dictionary.
        for _ in 0..2 {
            let (intake, parsed) = bench.fill(|out| parse(line.as_bytes(), &Options::default(), out));
            prop_assert_eq!(&parsed.errors, &vec![], "{}", line);
            for (index, (field, value)) in fields.iter().enumerate() {
                let def = bench.table.get(intake.series[intake.index[index] as usize]).unwrap();
                let expected = format!("{measurement}.{field}");
                prop_assert_eq!(def.key.name(), expected.as_str());
                prop_assert_eq!(intake.values[index].to_bits(), value.to_bits());
                prop_assert_eq!(intake.times[index], time);
                for (tag, expected) in &tags {
                    prop_assert_eq!(def.key.label(tag), Some(expected.as_str()));
                }
            }
            prop_assert_eq!(&intake.events[0].body, &text);
        }
    }

    #[test]
    fn no_bytes_make_it_panic_and_every_reading_is_counted(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bench = Bench::new();
        let (intake, parsed) = bench.fill(|out| parse(&body, &Options::default(), out));
        prop_assert_eq!(intake.counts.get(Cause::Received), intake.len() as u64 + parsed.refused);
    }

    #[test]
    fn nearly_right_lines_never_panic(body in "(m[,a=\\\\ ]{0,4} ?[vw=,\"1i.e\\\\ -]{0,12}\n?){0,6}") {
        let mut bench = Bench::new();
        bench.fill(|out| parse(body.as_bytes(), &Options::default(), out));
    }
}

//! The real payloads that must come out right by default, and what hostile ones get.

use super::*;
use crate::testing::{Bench, NOW};
use proptest::prelude::*;

struct Mapped {
    samples: Vec<String>,
    events: Vec<String>,
    rejected: Vec<(Cause, u64)>,
    reason: Option<String>,
}

fn map_with(config: &MappingConfig, topic: &str, payload: &[u8], retained: bool) -> Mapped {
    let mapper = Mapper::new(config).unwrap();
    let mut bench = Bench::new();
    let at = bench.door.now();
    let (intake, ()) = bench.fill(|out| mapper.map(topic, payload, retained, at, out));
    let rejected: Vec<(Cause, u64)> =
        intake.counts.iter().filter(|(cause, _)| *cause != Cause::Received).collect();
    let refused: u64 = rejected.iter().map(|(_, n)| n).sum();
    assert_eq!(intake.counts.get(Cause::Received), intake.len() as u64 + refused);
    Mapped {
        samples: bench.samples(&intake),
        events: bench.events(&intake),
        rejected,
        reason: bench.door.rejects.list().first().map(|reject| reject.reason.clone()),
    }
}

fn berlin() -> MappingConfig {
    MappingConfig { time_zone: "Europe/Berlin".into(), ..MappingConfig::default() }
}

fn map(topic: &str, payload: &str) -> Mapped {
    map_with(&berlin(), topic, payload.as_bytes(), false)
}

fn samples(topic: &str, payload: &str) -> Vec<String> {
    let mapped = map(topic, payload);
    assert_eq!((mapped.events, mapped.rejected), (vec![], vec![]), "{topic} {payload}");
    mapped.samples
}

fn event(topic: &str, payload: &str) -> String {
    let mut mapped = map(topic, payload);
    assert_eq!((mapped.samples, mapped.rejected), (vec![], vec![]), "{topic} {payload}");
    assert_eq!(mapped.events.len(), 1, "{topic} {payload}");
    mapped.events.remove(0)
}

fn nothing(topic: &str, payload: &str) {
    assert!(samples(topic, payload).is_empty(), "{topic} {payload}");
}

const T: i64 = 1_709_287_200_000_000_000; // 2024-03-01T10:00:00Z

#[test]
fn a_bare_number_on_a_plain_topic_just_works() {
    let expected = [r#"temperature{device="pump7",site="plant1"} = 21.5 @now ~1"#];
    assert_eq!(samples("plant1/pump7/temperature", "21.5"), expected);
    assert_eq!(samples("plant1/pump7/temperature", " 21.5\n"), expected);
    assert_eq!(samples("plant1/pump7/temperature", "\"21.5\""), expected);
    assert_eq!(samples("plant1/pump7/temperature", "+2.15e1"), expected);
    assert_eq!(
        samples("plant1/pump7/motor/speed", "-0"),
        [r#"motor.speed{device="pump7",site="plant1"} = -0 @now ~1"#]
    );
    assert_eq!(samples("pump7/temperature", "21.5"), [r#"temperature{device="pump7"} = 21.5 @now ~1"#]);
    assert_eq!(samples("temperature", "21.5"), ["temperature = 21.5 @now ~1"]);
}

#[test]
fn a_topic_seen_before_gives_the_same_series_by_the_short_way() {
    let mapper = Mapper::new(&berlin()).unwrap();
    let mut bench = Bench::new();
    let at = bench.door.now();
    for value in ["1", "2", "NaN", "3"] {
        let (intake, ()) = bench.fill(|out| mapper.map("a/b/c", value.as_bytes(), false, at, out));
        assert_eq!(intake.len(), usize::from(value != "NaN"));
    }
    assert_eq!(bench.table.len(), 1);
    let (intake, ()) = bench.fill(|out| mapper.map("a/b/c", b"word", false, at, out));
    assert_eq!(bench.events(&intake), [r#"a/b/c Info "word" site=a device=b field=c @now"#]);
}

#[test]
fn zigbee2mqtt_null_is_no_sample_and_on_beside_numbers_is_one() {
    assert_eq!(
        samples("zigbee2mqtt/plug", r#"{"power":null,"voltage":236.95,"state":"ON","linkquality":15}"#),
        [
            r#"voltage{device="plug"} = 236.95 @now ~1"#,
            r#"state{device="plug"} = 1 @now ~1"#,
            r#"linkquality{device="plug"} = 15 @now ~1"#,
        ]
    );
    assert_eq!(
        samples("zigbee2mqtt/kitchen/lamp", r#"{"brightness":254}"#),
        [r#"brightness{device="kitchen/lamp"} = 254 @now ~1"#]
    );
    assert_eq!(
        samples("zigbee2mqtt/door", r#"{"contact":false,"update":{"state":"idle","installed_version":5}}"#),
        [r#"contact{device="door"} = 0 @now ~1"#, r#"update.installed_version{device="door"} = 5 @now ~1"#,]
    );
}

#[test]
fn an_event_is_as_bad_as_its_fields_say() {
    for (payload, expected) in [
        (r#"{"level":"warning","message":"m"}"#, "Warn"),
        (r#"{"message":"m","severity":"CRITICAL"}"#, "Fatal"),
        (r#"{"severity_text":"error","msg":"m"}"#, "Error"),
        // The first of the names counts, as over HTTP.
        (r#"{"level":"debug","severity":"warn","message":"m"}"#, "Warn"),
        // What the object says counts more than the key.
        (r#"{"level":"info","error":"m"}"#, "Info"),
        (r#"{"level":"loud","error":"m"}"#, "Error"),
        (r#"{"level":null,"warning":"m"}"#, "Warn"),
        (r#"{"level":"error","log":{"message":"m"}}"#, "Error"),
        (r#"{"log":{"level":"error"},"message":"m"}"#, "Info"),
        // Text that is no event by its key.
        (r#"{"level":"warning","text":"m"}"#, "Warn"),
        (r#"{"severity":"error","text":"m"}"#, "Error"),
    ] {
        let shown = event("plant1/pump7", payload);
        assert!(shown.starts_with(&format!("plant1/pump7 {expected} \"m\"")), "{payload}: {shown}");
    }
    // A number says it too, and stays the reading that it may be.
    for payload in [r#"{"level":40,"message":"m"}"#, r#"{"severity_number":"13","message":"m"}"#] {
        let mapped = map("plant1/tank", payload);
        assert!(mapped.events[0].starts_with("plant1/tank Warn"), "{:?}", mapped.events);
        assert_eq!(mapped.samples.len(), 1, "{payload}");
    }
}

#[test]
fn zigbee2mqtt_availability_is_an_event_and_not_an_error() {
    let expected = r#"zigbee2mqtt/lamp/availability Info "online" device=lamp field=availability @now"#;
    assert_eq!(event("zigbee2mqtt/lamp/availability", "online"), expected);
    assert_eq!(
        event("zigbee2mqtt/lamp/availability", r#"{"state":"offline"}"#),
        r#"zigbee2mqtt/lamp/availability Info "offline" device=lamp field=availability.state @now"#
    );
    assert_eq!(
        event("zigbee2mqtt/bridge/logging", r#"{"level":"warning","message":"queue is full"}"#),
        r#"zigbee2mqtt/bridge/logging Warn "queue is full" device=bridge/logging field=message @now"#
    );
}

#[test]
fn zigbee2mqtt_a_button_press_is_an_event_beside_the_samples() {
    let mapped = map("zigbee2mqtt/button", r#"{"action":"single","battery":100,"effect":"none"}"#);
    assert_eq!(mapped.samples, [r#"battery{device="button"} = 100 @now ~1"#]);
    assert_eq!(mapped.events, [r#"zigbee2mqtt/button Info "single" device=button field=action @now"#]);
    assert!(map("zigbee2mqtt/button", r#"{"action":"","battery":100}"#).events.is_empty());
}

#[test]
fn zigbee2mqtt_configuration_and_commands_are_counted_and_no_readings() {
    for topic in [
        "zigbee2mqtt/bridge/devices",
        "zigbee2mqtt/lamp/set",
        "homeassistant/sensor/x/config",
        "cmnd/x/POWER",
    ] {
        let mapped = map(topic, r#"[{"a":1}]"#);
        assert_eq!((mapped.samples.len(), mapped.rejected), (0, vec![(Cause::ReducedDrop, 1)]), "{topic}");
    }
}

#[test]
fn tasmota_has_its_own_local_time_and_units_are_no_readings() {
    assert_eq!(
        samples(
            "tele/boiler/SENSOR",
            r#"{"Time":"2024-03-01T10:00:00","AM2301":{"Temperature":21.5,"Humidity":40},"TempUnit":"C"}"#
        ),
        [
            // 10:00 in Berlin is 09:00 UTC.
            format!(r#"AM2301.Temperature{{device="boiler"}} = 21.5 @{}"#, T - 3_600_000_000_000),
            format!(r#"AM2301.Humidity{{device="boiler"}} = 40 @{}"#, T - 3_600_000_000_000),
        ]
    );
    assert_eq!(
        event("tele/boiler/LWT", "Online"),
        r#"tele/boiler/LWT Info "Online" device=boiler field=LWT @now"#
    );
    assert_eq!(samples("stat/boiler/POWER", "ON"), [r#"POWER{device="boiler"} = 1 @now ~1"#]);
    assert_eq!(
        samples("stat/boiler/RESULT", r#"{"POWER":"OFF"}"#),
        [r#"POWER{device="boiler"} = 0 @now ~1"#]
    );
    assert_eq!(
        samples(
            "stat/x/STATUS10",
            r#"{"StatusSNS":{"Time":"2024-03-01T11:00:00","DS18B20":{"Id":"01131B","Temperature":null},"ENERGY":{"Power":7}}}"#
        ),
        [format!(r#"StatusSNS.ENERGY.Power{{device="x"}} = 7 @{T}"#)]
    );
    // Before the clock is set: kept with the time of arrival, in doubt.
    assert_eq!(
        samples("tele/x/SENSOR", r#"{"Time":"1970-01-01T00:00:12","A":{"Temperature":1}}"#),
        [r#"A.Temperature{device="x"} = 1 @now ~5"#]
    );
}

#[test]
fn an_epoch_time_is_understood_in_every_unit_as_number_and_as_text() {
    for time in [
        "1709287200",
        "1709287200000",
        "1709287200000000",
        "1709287200000000000",
        "\"1709287200\"",
        "\"1709287200000\"",
        "1709287200.0",
        "\"2024-03-01T10:00:00Z\"",
        "\"2024-03-01T12:00:00+02:00\"",
        "\"2024-03-01 11:00:00\"",
    ] {
        for key in ["time", "timestamp", "ts", "Timestamp"] {
            assert_eq!(
                samples("s/d", &format!(r#"{{"{key}":{time},"t":1}}"#)),
                [format!(r#"t{{device="d",site="s"}} = 1 @{T}"#)],
                "{key} {time}"
            );
        }
    }
}

#[test]
fn an_object_with_two_times_has_one_and_neither_is_a_reading() {
    assert_eq!(
        samples("s/d", r#"{"time":null,"timestamp":1709287200,"last_seen":1709287999000,"t":1}"#),
        [format!(r#"t{{device="d",site="s"}} = 1 @{T}"#)]
    );
}

#[test]
fn a_time_too_far_ahead_or_out_of_range_refuses_the_reading_and_says_so() {
    for time in ["99999999999", "\"2262-05-01T00:00:00Z\"", "\"2030-01-01T00:00:00Z\"", "1e30"] {
        let mapped = map("s/d", &format!(r#"{{"time":{time},"t":1}}"#));
        assert_eq!((mapped.samples.len(), mapped.rejected), (0, vec![(Cause::RejectedTime, 1)]), "{time}");
        assert!(mapped.reason.unwrap().starts_with("s/d: "));
    }
}

#[test]
fn a_retained_value_with_another_payload_is_one_reading_and_marked() {
    let mapped = map_with(&berlin(), "a/b/c", b"5", true);
    assert_eq!(mapped.samples, [r#"c{device="b",site="a"} = 5 @now ~3"#]);
}

#[test]
fn state_words_are_ones_and_zeros_and_other_words_are_events() {
    for (word, value) in [("ON", 1), ("off", 0), ("true", 1), ("False", 0), ("open", 1), ("CLOSED", 0)] {
        assert_eq!(samples("a/b/c", word), [format!(r#"c{{device="b",site="a"}} = {value} @now ~1"#)]);
    }
    for word in ["online", "unavailable", "ready", "[INFO] started", "error code=5 happened", "21,5"] {
        assert_eq!(event("a/b/c", word), format!("a/b/c Info {word:?} site=a device=b field=c @now"));
    }
    nothing("a/b/c", "null");
    nothing("a/b/c", "");
    nothing("a/b/c", r#"{"a":null,"b":{}}"#);
}

#[test]
fn one_value_in_an_object_is_named_by_its_topic() {
    assert_eq!(
        samples("s/d/temperature", r#"{"value":21.5,"unit":"Cel","time":1709287200}"#),
        [format!(r#"temperature{{device="d",site="s"}} = 21.5 Cel @{T}"#)]
    );
    assert_eq!(
        samples("d/temperature", r#"{"value":"21.5","quality":192}"#),
        [r#"temperature{device="d"} = 21.5 @now ~1"#, r#"temperature.quality{device="d"} = 192 @now ~1"#,]
    );
    nothing("N/c0619ab/battery/256/Soc", r#"{"value":null}"#);
    assert_eq!(
        samples("N/c0619ab/battery/256/Dc/0/Voltage", r#"{"value":26.4}"#),
        [r#"Dc.0.Voltage{device="battery/256",site="c0619ab"} = 26.4 @now ~1"#]
    );
    nothing("kep/x/y", r#"{"v":5,"q":false,"t":1709287200000}"#);
}

#[test]
fn one_topic_may_carry_many_devices_and_readings() {
    assert_eq!(
        samples(
            "plant1/gateway/readings",
            r#"[{"device":"pump7","metric":"temperature","value":21.5,"ts":1709287200},
                {"device":"pump8","metric":"temperature","value":22.5,"ts":1709287201,"labels":{"line":"a"}}]"#
        ),
        [
            format!(r#"temperature{{device="pump7",site="plant1"}} = 21.5 @{T}"#),
            format!(r#"temperature{{device="pump8",line="a",site="plant1"}} = 22.5 @{}"#, T + 1_000_000_000),
        ]
    );
    assert_eq!(
        samples(
            "plant1/gw",
            r#"{"readings":[{"name":"t","value":1,"time":1709287200},{"name":"t","value":2,"time":1709287260}]}"#
        ),
        [
            format!(r#"readings.t{{device="gw",site="plant1"}} = 1 @{T}"#),
            format!(r#"readings.t{{device="gw",site="plant1"}} = 2 @{}"#, T + 60_000_000_000),
        ]
    );
    assert_eq!(
        samples("s/d/axis", "[0.5,null,1.5]"),
        [r#"axis.0{device="d",site="s"} = 0.5 @now ~1"#, r#"axis.2{device="d",site="s"} = 1.5 @now ~1"#,]
    );
    assert_eq!(
        samples("s/d", r#"{"vibration":{"x":[1,2]}}"#),
        [
            r#"vibration.x.0{device="d",site="s"} = 1 @now ~1"#,
            r#"vibration.x.1{device="d",site="s"} = 2 @now ~1"#,
        ]
    );
}

#[test]
fn line_protocol_in_a_payload_gets_site_and_device_from_the_topic() {
    assert_eq!(
        samples("plant1/pump7/lines", "motor,phase=a current=5.1,volts=400i 1709287200000000000"),
        [
            format!(r#"motor.current{{device="pump7",phase="a",site="plant1"}} = 5.1 @{T}"#),
            format!(r#"motor.volts{{device="pump7",phase="a",site="plant1"}} = 400 @{T}"#),
        ]
    );
}

#[test]
fn shelly_esphome_homie_and_lorawan_come_out_right() {
    assert_eq!(
        samples("shellies/shelly1pm-A4CF/relay/0/power", "12.5"),
        [r#"relay.0.power{device="shelly1pm-A4CF"} = 12.5 @now ~1"#]
    );
    assert_eq!(
        samples(
            "shellyplus1pm-44/events/rpc",
            r#"{"src":"shellyplus1pm-44","dst":"x/events","method":"NotifyStatus","params":{"ts":1709287200.25,"switch:0":{"id":0,"apower":12.1,"output":true}}}"#
        ),
        [
            format!(r#"switch:0.id{{device="shellyplus1pm-44"}} = 0 @{}"#, T + 250_000_000),
            format!(r#"switch:0.apower{{device="shellyplus1pm-44"}} = 12.1 @{}"#, T + 250_000_000),
            format!(r#"switch:0.output{{device="shellyplus1pm-44"}} = 1 @{}"#, T + 250_000_000),
        ]
    );
    assert_eq!(
        samples("greenhouse/sensor/soil_moisture/state", "41.2"),
        [r#"soil_moisture{device="greenhouse"} = 41.2 @now ~1"#]
    );
    assert_eq!(
        samples("homie/car/engine/temperature", "90"),
        [r#"engine.temperature{device="car"} = 90 @now ~1"#]
    );
    assert_eq!(
        event("homie/car/$state", "ready"),
        r#"homie/car/$state Info "ready" device=car field=state @now"#
    );
    assert_eq!(map("homie/car/engine/$name", "Engine").rejected, [(Cause::ReducedDrop, 1)]);
    assert_eq!(
        samples(
            "application/7/device/0101/event/up",
            r#"{"deduplicationId":"3ac7","time":"2024-03-01T10:00:00.5+00:00","deviceInfo":{"deviceName":"x"},"fCnt":12,"object":{"temperature":21.5},"rxInfo":[{"rssi":-48}]}"#
        ),
        [format!(r#"temperature{{application="7",device="0101"}} = 21.5 @{}"#, T + 500_000_000)]
    );
    let mapped =
        map("application/7/device/0101/event/up", r#"{"time":"2024-03-01T10:00:00Z","data":"AQ=="}"#);
    assert_eq!(mapped.rejected, [(Cause::RejectedUnmapped, 1)]);
    assert_eq!(
        samples(
            "v3/app@t/devices/eui-1/up",
            r#"{"received_at":"2024-03-01T10:00:00Z","uplink_message":{"f_port":1,"decoded_payload":{"battery":3.3}}}"#
        ),
        [format!(r#"battery{{application="app@t",device="eui-1"}} = 3.3 @{T}"#)]
    );
    assert_eq!(
        samples(
            "rtl_433/pi/events",
            r#"{"time":"2024-03-01 11:00:00","model":"Acurite","id":5,"temperature_C":3.5}"#
        ),
        [
            format!(r#"id{{device="Acurite",gateway="pi"}} = 5 @{T}"#),
            format!(r#"temperature_C{{device="Acurite",gateway="pi"}} = 3.5 @{T}"#),
        ]
    );
}

#[test]
fn configured_rules_come_first_and_decide_name_labels_unit_and_kind() {
    let rule = RuleConfig {
        topic: "factory/{line}/{device}/raw/{metric}".into(),
        name: "press_{metric}".into(),
        site: "factory-1".into(),
        labels: [("kind".to_owned(), "press {line}".to_owned())].into(),
        unit: "bar".into(),
        ..RuleConfig::default()
    };
    let text = RuleConfig { topic: "log/#".into(), payload: PayloadKind::Text, ..RuleConfig::default() };
    let number = RuleConfig { topic: "only/+".into(), payload: PayloadKind::Number, ..RuleConfig::default() };
    let config =
        MappingConfig { rules: vec![rule, text, number], default_rules: false, ..MappingConfig::default() };
    assert_eq!(
        map_with(&config, "factory/a/p1/raw/oil", b"3", false).samples,
        [r#"press_oil{device="p1",kind="press a",site="factory-1"} = 3 bar @now ~1"#]
    );
    assert_eq!(map_with(&config, "log/x", b"21.5", false).events, [r#"log/x Info "21.5" @now"#]);
    assert_eq!(map_with(&config, "only/x", b"word", false).rejected, [(Cause::RejectedType, 1)]);
    assert_eq!(map_with(&config, "else/x", b"5", false).rejected, [(Cause::RejectedUnmapped, 1)]);
    let bad = MappingConfig {
        rules: vec![RuleConfig { topic: "a/{b}".into(), name: "{c}".into(), ..RuleConfig::default() }],
        ..MappingConfig::default()
    };
    assert!(Mapper::new(&bad).unwrap_err().to_string().contains("rule 1"));
    let zone = MappingConfig { time_zone: "Mars/Olympus".into(), ..MappingConfig::default() };
    assert!(Mapper::new(&zone).unwrap_err().to_string().contains("Mars/Olympus"));
}

#[test]
fn every_refusal_is_counted_by_its_cause() {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(40), "}".repeat(40));
    let long = format!(r#"{{"{}":1}}"#, "x".repeat(600));
    for (payload, cause) in [
        (r#"{"a":1"#.as_bytes(), Cause::RejectedSyntax),
        (br#"{"a":NaN}"#, Cause::RejectedSyntax),
        (br#"{"a":1e999}"#, Cause::RejectedNotFinite),
        (br#"{"a":"NaN"}"#, Cause::RejectedNotFinite),
        (b"nan", Cause::RejectedNotFinite),
        (b"-1e999", Cause::RejectedNotFinite),
        (b"\xff\xfe\x00", Cause::RejectedEncoding),
        (b"{\"a\":\"\xff\"}", Cause::RejectedEncoding),
        (deep.as_bytes(), Cause::RejectedLimit),
        (long.as_bytes(), Cause::RejectedLimit),
    ] {
        let mapped = map_with(&berlin(), "s/d", payload, false);
        assert_eq!(mapped.rejected, [(cause, 1)], "{}", String::from_utf8_lossy(payload));
        assert!(mapped.samples.is_empty() && mapped.events.is_empty());
    }
    let small = MappingConfig { max_payload: 10, ..MappingConfig::default() };
    assert_eq!(map_with(&small, "s/d", b"{\"a\":     1}", false).rejected, [(Cause::RejectedLimit, 1)]);
}

#[test]
fn one_bad_value_leaves_its_neighbours() {
    let mapped = map("s/d", r#"{"a":1,"b":"inf","c":3}"#);
    assert_eq!((mapped.samples.len(), mapped.rejected), (2, vec![(Cause::RejectedNotFinite, 1)]));
}

#[test]
fn a_payload_gives_at_most_max_readings() {
    let config = MappingConfig { max_readings: 3, ..MappingConfig::default() };
    let mapped = map_with(&config, "s/d/axis", b"[1,2,3,4,5,6]", false);
    assert_eq!((mapped.samples.len(), mapped.rejected), (3, vec![(Cause::RejectedLimit, 1)]));
}

#[test]
fn the_how_to_says_what_really_comes_out() {
    let page = include_str!("../../../../../docs/how-to/mapping.md");
    let block = page.split("<!-- examples").nth(1).unwrap().split("```").nth(1).unwrap();
    let mut lines = 0;
    for line in block.lines().filter(|line| !line.is_empty()) {
        let [topic, payload, expected] = line.split(" | ").collect::<Vec<_>>()[..] else { panic!("{line}") };
        let mapped = map(topic, payload);
        assert_eq!(mapped.rejected, [], "{line}");
        let samples = mapped.samples.iter().map(|sample| sample.split(" @").next().unwrap().to_owned());
        let events = mapped.events.iter().map(|event| format!("event {}", event.split(' ').nth(2).unwrap()));
        let mut got = samples.chain(events).collect::<Vec<_>>().join("; ");
        if got.is_empty() {
            got = "nothing".into();
        }
        assert_eq!(got, expected, "{line}");
        lines += 1;
    }
    assert!(lines > 15);
}

fn json_like() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("{n:?}")),
        "[a-zA-Z0-9 :.+-]{0,12}".prop_map(|text| format!("{text:?}")),
        Just("\"2024-03-01T10:00:00\"".to_owned()),
    ];
    let key = prop_oneof![
        "[a-z]{0,4}",
        Just("time".into()),
        Just("value".into()),
        Just("device".into()),
        Just("name".into())
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((key.clone(), inner), 0..6).prop_map(|fields| {
                let fields: Vec<String> =
                    fields.into_iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_topic_and_no_bytes_make_it_panic(topic in "[a-z0-9/$+#é]{0,30}", payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        map_with(&berlin(), &topic, &payload, false);
    }

    #[test]
    fn any_json_gives_readings_or_counted_refusals(topic in "(zigbee2mqtt|tele|homie|N|[a-c])(/[a-c]{1,2}){0,4}", payload in json_like()) {
        let mapped = map(&topic, &payload);
        prop_assert!(mapped.samples.iter().all(|sample| !sample.contains("NaN")));
    }

    #[test]
    fn any_finite_number_arrives_to_the_bit(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
        let mapper = Mapper::new(&MappingConfig::default()).unwrap();
        let mut bench = Bench::new();
        let at = bench.door.now();
        for payload in [format!("{value:?}"), format!("{{\"c\":{value:?}}}")] {
            for _ in 0..2 {
                let (intake, ()) = bench.fill(|out| mapper.map("a/b/c", payload.as_bytes(), false, at, out));
                prop_assert_eq!(intake.values[0].to_bits(), value.to_bits());
                prop_assert_eq!(intake.times[0], NOW);
            }
        }
    }
}

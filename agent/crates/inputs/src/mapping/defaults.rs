//! The built-in rules: what widely used devices and bridges send.
//!
//! A line is (topic, what it is, and the settings that differ from a plain rule). The order counts.
//! Each has a real payload in `tests.rs`.

use super::config::{PayloadKind, RuleConfig};

/// A built-in rule: a configured one, and which payloads it is for.
pub(super) struct BuiltIn {
    pub(super) rule: RuleConfig,
    /// Only for payloads that are a JSON object or array.
    pub(super) only_json: bool,
}

fn rule(topic: &str) -> BuiltIn {
    BuiltIn { rule: RuleConfig { topic: topic.into(), ..RuleConfig::default() }, only_json: false }
}

impl BuiltIn {
    fn json(mut self) -> Self {
        self.only_json = true;
        self
    }

    fn device(mut self, template: &str) -> Self {
        self.rule.device = template.into();
        self
    }

    fn name(mut self, template: &str) -> Self {
        self.rule.name = template.into();
        self
    }

    fn root(mut self, root: &str, time: &str) -> Self {
        self.rule.root = root.into();
        self.rule.time = time.into();
        self
    }

    fn device_field(mut self, path: &str) -> Self {
        self.rule.device_field = path.into();
        self
    }
}

fn ignore(topic: &str) -> BuiltIn {
    let mut built_in = rule(topic);
    built_in.rule.payload = PayloadKind::Ignore;
    built_in
}

pub(super) fn rules() -> Vec<BuiltIn> {
    vec![
        ignore("$SYS/#"),
        // Home Assistant: discovery is configuration.
        ignore("homeassistant/+/+/config"),
        ignore("homeassistant/+/+/+/config"),
        rule("homeassistant/{metric}").device("homeassistant"),
        // Zigbee2MQTT. Friendly names may hold slashes.
        ignore("zigbee2mqtt/bridge/info"),
        ignore("zigbee2mqtt/bridge/devices"),
        ignore("zigbee2mqtt/bridge/groups"),
        ignore("zigbee2mqtt/bridge/definitions"),
        ignore("zigbee2mqtt/bridge/extensions"),
        ignore("zigbee2mqtt/bridge/converters"),
        ignore("zigbee2mqtt/bridge/request/#"),
        ignore("zigbee2mqtt/bridge/response/#"),
        ignore("zigbee2mqtt/+/set"),
        ignore("zigbee2mqtt/+/set/+"),
        ignore("zigbee2mqtt/+/get"),
        ignore("zigbee2mqtt/+/get/+"),
        ignore("zigbee2mqtt/+/+/set"),
        ignore("zigbee2mqtt/+/+/get"),
        rule("zigbee2mqtt/{device}/availability").name("availability"),
        rule("zigbee2mqtt/{area}/{device}/availability").name("availability").device("{area}/{device}"),
        rule("zigbee2mqtt/{device...}").json(),
        rule("zigbee2mqtt/{device}/{metric...}"),
        // Tasmota, in its own order of levels and in Home Assistant's.
        ignore("cmnd/#"),
        ignore("{device}/cmnd/#"),
        rule("tele/{device}/{metric...}"),
        rule("stat/{device}/{metric...}"),
        rule("{device}/tele/SENSOR"),
        rule("{device}/tele/STATE"),
        rule("{device}/tele/LWT").name("LWT"),
        rule("{device}/stat/RESULT"),
        // Shelly, first and later generations.
        ignore("shellies/+/command"),
        ignore("shellies/+/+/+/command"),
        ignore("shellies/command"),
        rule("shellies/{device}/{metric...}"),
        rule("{device}/events/rpc").root("params", "params.ts").json(),
        rule("{device}/status/{metric...}").json(),
        // ESPHome.
        ignore("{device}/+/+/command"),
        rule("{device}/sensor/{metric}/state"),
        rule("{device}/binary_sensor/{metric}/state"),
        rule("{device}/text_sensor/{metric}/state"),
        rule("{device}/switch/{metric}/state"),
        rule("{device}/number/{metric}/state"),
        // Victron: N is a notification, R and W are requests.
        rule("N/{site}/{service}/{instance}/{metric...}").device("{service}/{instance}"),
        ignore("R/#"),
        ignore("W/#"),
        // LoRaWAN: ChirpStack 4, The Things Stack 3.
        rule("application/{application}/device/{device}/event/up").root("object", "time").json(),
        rule("application/{application}/device/{device}/event/status").json(),
        rule("application/{application}/device/{device}/event/log").json(),
        ignore("application/+/device/+/event/+"),
        ignore("application/+/device/+/command/#"),
        rule("v3/{application}/devices/{device}/up")
            .root("uplink_message.decoded_payload", "received_at")
            .json(),
        ignore("v3/+/devices/#"),
        // Homie 3, 4 and 5: attributes begin with $.
        rule("homie/{device}/$state").name("state"),
        rule("homie/5/{device}/$state").name("state"),
        ignore("homie/+/$+"),
        ignore("homie/+/$+/#"),
        ignore("homie/+/+/$+"),
        ignore("homie/+/+/$+/#"),
        ignore("homie/+/+/+/$+"),
        ignore("homie/+/+/+/$+/#"),
        ignore("homie/+/+/+/set"),
        ignore("homie/5/+/+/+/set"),
        rule("homie/5/{device}/{node}/{metric}").name("{node}.{metric}"),
        rule("homie/{device}/{node}/{metric}").name("{node}.{metric}"),
        // rtl_433: one topic for all devices.
        rule("rtl_433/{gateway}/events").device_field("model").json(),
    ]
}

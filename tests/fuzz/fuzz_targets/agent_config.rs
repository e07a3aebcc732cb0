#![no_main]

#[expect(dead_code, reason = "each fuzz target uses one of them")]
#[path = "../src/agent.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::agent_config(bytes));

#![no_main]

#[path = "../src/tracer.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::tracer(bytes));

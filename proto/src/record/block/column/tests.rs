use super::*;
use proptest::prelude::*;

fn written(values: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    put_column(&mut out, values);
    out
}

fn read(bytes: &[u8], rows: usize) -> Result<Vec<i64>, BlockError> {
    let mut reader = Reader::new(bytes);
    let values = reader.column(rows)?;
    reader.end()?;
    Ok(values)
}

fn ramp(rows: i64) -> Vec<i64> {
    (0..rows).map(|i| i * i % 1009 - 500).collect()
}

#[test]
fn each_nature_takes_its_code() {
    let tag = |values: &[i64]| written(values)[0];
    assert_eq!(tag(&[]), ZEROS);
    assert_eq!(tag(&[0; 1000]), ZEROS);
    assert_eq!(tag(&[-7; 1000]), CONSTANT);
    assert_eq!(tag(&[vec![251; 5000], vec![249; 5000]].concat()), RUNS);
    assert_eq!(tag(&ramp(20)), PACKED);
    assert_eq!(tag(&ramp(20_000)), PCO_32);
    let far = [ramp(20_000), vec![i64::MAX]].concat();
    assert_eq!(tag(&far), PCO_64);
    for values in [ramp(20), ramp(20_000), far, vec![-7; 1000]] {
        assert_eq!(read(&written(&values), values.len()), Ok(values));
    }
}

#[test]
fn what_never_changes_costs_next_to_nothing() {
    assert_eq!(written(&[0; 80_000]).len(), 1);
    assert_eq!(written(&[252; 80_000]).len(), 4);
    assert!(written(&[vec![252; 40_000], vec![250; 40_000]].concat()).len() <= 12);
}

#[test]
fn a_column_can_be_stepped_over() {
    for values in [vec![], vec![0; 9], vec![5; 9], ramp(9), ramp(9000)] {
        let mut bytes = written(&values);
        put_column(&mut bytes, &[42]);
        let mut reader = Reader::new(&bytes);
        reader.skip().unwrap();
        assert_eq!(reader.column(1), Ok(vec![42]));
        reader.end().unwrap();
    }
}

#[test]
fn the_number_of_rows_must_fit() {
    for values in [
        vec![5, 5, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6],
        ramp(99),
        ramp(9000),
    ] {
        let bytes = written(&values);
        for rows in [0, 1, values.len() - 9, values.len() + 9, 1 << 18] {
            assert!(
                read(&bytes, rows).is_err(),
                "{rows} rows of {}",
                values.len()
            );
        }
    }
}

#[test]
fn codes_of_pco_that_allocate_by_its_input_are_refused() {
    let bytes = written(&ramp(9000));
    // tag, length (2 bytes), least (2 bytes), pco's version (2 bytes), then mode and delta.
    assert_eq!(&bytes[5..7], [PCO_MAJOR, 1]);
    for code in (0..=255).filter(|&code| code != bytes[7] && code != bytes[7] ^ 0x10) {
        let mut bytes = bytes.clone();
        bytes[7] = code;
        assert_eq!(
            read(&bytes, 9000),
            Err(BlockError::Malformed(
                "a column uses a code that is not in use"
            )),
            "{code:#04x}"
        );
    }
}

fn any_column() -> impl Strategy<Value = Vec<i64>> {
    let cell = prop_oneof![
        4 => -300i64..300,
        1 => any::<i64>(),
        1 => Just(i64::MIN),
        1 => Just(i64::MAX),
    ];
    prop_oneof![
        proptest::collection::vec(cell, 0..700),
        proptest::collection::vec((any::<i64>(), 1usize..400), 0..9).prop_map(|runs| {
            runs.into_iter()
                .flat_map(|(v, n)| std::iter::repeat_n(v, n))
                .collect()
        }),
        (
            any::<i64>(),
            proptest::collection::vec(-2000i64..2000, 0..3000)
        )
            .prop_map(|(at, steps)| {
                steps
                    .into_iter()
                    .scan(at, |at, s| {
                        *at = at.wrapping_add(s);
                        Some(*at)
                    })
                    .collect()
            }),
    ]
}

proptest! {
    #[test]
    fn columns_come_back(values in any_column()) {
        prop_assert_eq!(read(&written(&values), values.len()), Ok(values));
    }

    #[test]
    fn numbers_come_back(signed: i64, unsigned: u64) {
        let mut out = Vec::new();
        put_signed(&mut out, signed);
        put_unsigned(&mut out, unsigned);
        let mut reader = Reader::new(&out);
        prop_assert_eq!(reader.signed(), Ok(signed));
        prop_assert_eq!(reader.unsigned(), Ok(unsigned));
    }

    #[test]
    fn damage_never_panics(
        values in any_column(),
        hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut bytes = written(&values);
        for (at, byte) in hits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(got) = read(&bytes, values.len()) {
            prop_assert_eq!(got.len(), values.len());
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), rows in 0usize..600) {
        let _ = read(&bytes, rows);
    }
}

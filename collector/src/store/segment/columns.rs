//! Reads and writes Parquet by columns; [`Row::COLUMNS`] lists the columns of a row.

use super::super::StoreError;
use super::row::{Origin, Row};
use hopgap_proto::time::Wall;
use parquet::basic::{
    Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel,
};
use parquet::column::reader::ColumnReader;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, RowGroupMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::statistics::Statistics;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, Type};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Rows in a row group: bounds the memory of writing and reading (about 20 MB).
pub(super) const GROUP: usize = 1 << 17;

/// The largest dictionary of a column of lengths, in bytes: 8192 values.
const DICTIONARY: usize = 1 << 16;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Holds {
    /// Text of few different values.
    Text,
    /// An unsigned number with this many bits.
    Unsigned(i8),
    /// A signed number with this many bits.
    Signed(i8),
    /// An instant of UTC in nanoseconds.
    Time,
    /// A length of time in nanoseconds. Values repeat where times are rounded to the
    /// session's time unit.
    Length,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Column {
    pub(in crate::store) name: &'static str,
    pub(in crate::store) holds: Holds,
    pub(in crate::store) nullable: bool,
}

impl Column {
    /// Whether Parquet stores it as an INT32: a number of up to 32 bits.
    fn narrow(&self) -> bool {
        matches!(self.holds, Holds::Unsigned(..=32) | Holds::Signed(..=32))
    }

    fn parquet(&self) -> Result<Type, ParquetError> {
        let (physical, logical) = match self.holds {
            Holds::Text => (Physical::BYTE_ARRAY, LogicalType::String),
            Holds::Time => (
                Physical::INT64,
                LogicalType::timestamp(true, TimeUnit::NANOS),
            ),
            Holds::Unsigned(bits) => (self.number(), LogicalType::integer(bits, false)),
            Holds::Length => (Physical::INT64, LogicalType::integer(64, true)),
            Holds::Signed(bits) => (self.number(), LogicalType::integer(bits, true)),
        };
        Type::primitive_type_builder(self.name, physical)
            .with_logical_type(Some(logical))
            .with_repetition(if self.nullable {
                Repetition::OPTIONAL
            } else {
                Repetition::REQUIRED
            })
            .build()
    }

    fn number(&self) -> Physical {
        if self.narrow() {
            Physical::INT32
        } else {
            Physical::INT64
        }
    }
}

/// The values of one column in one row group.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Values {
    numbers: Vec<i64>,
    texts: Vec<ByteArray>,
    /// For a nullable column: whether each row has a value.
    present: Vec<i16>,
}

impl Values {
    fn clear(&mut self) {
        self.numbers.clear();
        self.texts.clear();
        self.present.clear();
    }

    /// Adds a number.
    pub(in crate::store) fn number(&mut self, value: i64) {
        self.numbers.push(value);
    }

    /// Adds a number or null.
    pub(in crate::store) fn maybe(&mut self, value: Option<i64>) {
        self.present.push(i16::from(value.is_some()));
        self.numbers.extend(value);
    }

    /// Adds a text.
    pub(in crate::store) fn text(&mut self, value: &ByteArray) {
        self.texts.push(value.clone());
    }

    /// Adds a text or null.
    pub(in crate::store) fn maybe_text(&mut self, value: Option<&ByteArray>) {
        self.present.push(i16::from(value.is_some()));
        self.texts.extend(value.cloned());
    }
}

/// The columns of one row group, read back: one value or null for each row.
pub(in crate::store) struct Table {
    numbers: Vec<Vec<Option<i64>>>,
    texts: Vec<Vec<Option<ByteArray>>>,
}

impl Table {
    /// The number in a column that is never null.
    pub(in crate::store) fn number(&self, column: usize, row: usize) -> Option<i64> {
        self.maybe(column, row)
    }

    /// The number in a column; `None` for null.
    pub(in crate::store) fn maybe(&self, column: usize, row: usize) -> Option<i64> {
        self.numbers.get(column)?.get(row).copied().flatten()
    }

    /// The text in a column; `None` for null.
    pub(in crate::store) fn text(&self, column: usize, row: usize) -> Option<&ByteArray> {
        self.texts.get(column)?.get(row)?.as_ref()
    }
}

/// Writes rows into a new file, flushed to the disk when this returns; returns how many.
///
/// `fill` is called with a sink that takes the rows one by one.
pub(in crate::store) fn write<R: Row>(
    path: &Path,
    fill: impl FnOnce(&mut Sink<'_, R>) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    let file = File::create(path).map_err(StoreError::file(path))?;
    let failed = || StoreError::sealed(path);
    let writer = SerializedFileWriter::new(
        file.try_clone().map_err(StoreError::file(path))?,
        Arc::new(schema::<R>().map_err(failed())?),
        Arc::new(properties::<R>().map_err(failed())?),
    )
    .map_err(failed())?;
    let mut sink = Sink {
        path,
        writer,
        values: vec![Values::default(); R::COLUMNS.len()],
        pending: 0,
        rows: 0,
        row: std::marker::PhantomData,
    };
    fill(&mut sink)?;
    sink.flush()?;
    let rows = sink.rows;
    sink.writer.close().map_err(failed())?;
    file.sync_all().map_err(StoreError::file(path))?;
    Ok(rows)
}

/// Takes rows one by one and writes them by row groups.
pub(in crate::store) struct Sink<'a, R> {
    path: &'a Path,
    writer: SerializedFileWriter<File>,
    values: Vec<Values>,
    pending: usize,
    rows: u64,
    row: std::marker::PhantomData<R>,
}

impl<R: Row> Sink<'_, R> {
    /// Adds a row.
    pub(in crate::store) fn push(&mut self, origin: &Origin, row: &R) -> Result<(), StoreError> {
        row.put(origin, &mut self.values);
        self.pending += 1;
        self.rows += 1;
        if self.pending == GROUP {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.pending == 0 {
            return Ok(());
        }
        write_group(&mut self.writer, &self.values, R::COLUMNS)
            .map_err(StoreError::sealed(self.path))?;
        self.values.iter_mut().for_each(Values::clear);
        self.pending = 0;
        Ok(())
    }
}

fn write_group(
    writer: &mut SerializedFileWriter<File>,
    values: &[Values],
    columns: &[Column],
) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    for (values, column) in values.iter().zip(columns) {
        let Some(mut out) = group.next_column()? else {
            break;
        };
        let present = column.nullable.then_some(&values.present[..]);
        match out.untyped() {
            ColumnWriter::ByteArrayColumnWriter(out) => {
                out.write_batch(&values.texts, present, None)?;
            }
            ColumnWriter::Int64ColumnWriter(out) => {
                out.write_batch(&values.numbers, present, None)?;
            }
            ColumnWriter::Int32ColumnWriter(out) => {
                let narrow: Vec<i32> = values.numbers.iter().map(|v| low_half(*v)).collect();
                out.write_batch(&narrow, present, None)?;
            }
            _ => {
                return Err(ParquetError::General(
                    "a column of an unknown type".to_owned(),
                ));
            }
        }
        out.close()?;
    }
    group.close()?;
    Ok(())
}

/// Parquet keeps an unsigned number of 32 bits in a signed one with the same bits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "columns of 32 bits hold no more"
)]
fn low_half(value: i64) -> i32 {
    value as i32
}

fn schema<R: Row>() -> Result<Type, ParquetError> {
    let fields = R::COLUMNS
        .iter()
        .map(|c| c.parquet().map(Arc::new))
        .collect::<Result<_, _>>()?;
    Type::group_type_builder(R::KIND.name())
        .with_fields(fields)
        .build()
}

fn properties<R: Row>() -> Result<WriterProperties, ParquetError> {
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("hopgap-collector ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(GROUP))
        .set_key_value_metadata(Some(vec![KeyValue::new(
            "hopgap.schema".to_owned(),
            "1".to_owned(),
        )]));
    for column in R::COLUMNS {
        let path = ColumnPath::from(column.name);
        builder = match column.holds {
            Holds::Text => builder.set_column_dictionary_enabled(path, true),
            // Uses a dictionary while it is small: lengths rounded to 100 ns have some thousand
            // values, which take less room in it than as differences.
            Holds::Length => builder
                .set_column_dictionary_enabled(path.clone(), true)
                .set_column_dictionary_page_size_limit(path.clone(), DICTIONARY)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            Holds::Unsigned(_) | Holds::Signed(_) | Holds::Time => builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
        };
    }
    Ok(builder.build())
}

/// A sealed file, open for reading.
pub(in crate::store) struct Segment {
    reader: SerializedFileReader<File>,
}

impl Segment {
    /// Opens a sealed file.
    pub(in crate::store) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(StoreError::file(path))?;
        let reader = SerializedFileReader::new(file).map_err(StoreError::sealed(path))?;
        Ok(Self { reader })
    }

    /// How many rows it has.
    pub(in crate::store) fn count(&self) -> u64 {
        let rows = self.reader.metadata().file_metadata().num_rows();
        u64::try_from(rows).unwrap_or(0)
    }

    /// Gives every row whose time lies from `from` to `to` to `each`.
    pub(in crate::store) fn rows<R: Row>(
        &self,
        path: &Path,
        (from, to): (Wall, Wall),
        mut each: impl FnMut(Origin, R),
    ) -> Result<(), StoreError> {
        let damaged = |what: &str| StoreError::Damaged {
            path: path.to_owned(),
            what: what.to_owned(),
        };
        let metadata = self.reader.metadata();
        let names = metadata.file_metadata().schema_descr();
        let present = names.num_columns();
        let known = R::COLUMNS.get(..present).filter(|columns| {
            (present == R::FIRST_COLUMNS || present == R::COLUMNS.len())
                && columns
                    .iter()
                    .enumerate()
                    .all(|(i, c)| names.column(i).name() == c.name)
        });
        let Some(columns) = known else {
            return Err(damaged("its columns are others"));
        };
        for i in 0..metadata.num_row_groups() {
            if !overlaps(metadata.row_group(i), R::TIME, from, to) {
                continue;
            }
            let group = self
                .reader
                .get_row_group(i)
                .map_err(StoreError::sealed(path))?;
            let table = read_group(&*group, columns).map_err(StoreError::sealed(path))?;
            let rows = usize::try_from(metadata.row_group(i).num_rows()).unwrap_or(0);
            for row in 0..rows {
                let at = table.number(R::TIME, row).map(Wall::from_nanos);
                if at.is_some_and(|at| from <= at && at <= to) {
                    let (origin, row) = R::take(&table, row)
                        .ok_or_else(|| damaged("a row holds what was never written"))?;
                    each(origin, row);
                }
            }
        }
        Ok(())
    }
}

/// Whether a row group may hold rows of that time.
fn overlaps(group: &RowGroupMetaData, time: usize, from: Wall, to: Wall) -> bool {
    match group.column(time).statistics() {
        Some(Statistics::Int64(range)) => {
            let before = range.max_opt().is_some_and(|max| *max < from.as_nanos());
            let after = range.min_opt().is_some_and(|min| *min > to.as_nanos());
            !before && !after
        }
        _ => true,
    }
}

fn read_group(group: &dyn RowGroupReader, columns: &[Column]) -> Result<Table, ParquetError> {
    let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
    let mut table = Table {
        numbers: Vec::with_capacity(columns.len()),
        texts: Vec::with_capacity(columns.len()),
    };
    for (i, column) in columns.iter().enumerate() {
        let mut present = Vec::new();
        let (mut numbers, mut texts) = (Vec::new(), Vec::new());
        match group.get_column_reader(i)? {
            ColumnReader::ByteArrayColumnReader(mut reader) => {
                let mut values = Vec::new();
                reader.read_records(rows, Some(&mut present), None, &mut values)?;
                texts = spread(column, &present, values);
            }
            ColumnReader::Int64ColumnReader(mut reader) => {
                let mut values = Vec::new();
                reader.read_records(rows, Some(&mut present), None, &mut values)?;
                numbers = spread(column, &present, values);
            }
            ColumnReader::Int32ColumnReader(mut reader) => {
                let mut values = Vec::new();
                reader.read_records(rows, Some(&mut present), None, &mut values)?;
                let unsigned = matches!(column.holds, Holds::Unsigned(_));
                let wide = values.into_iter().map(|v: i32| {
                    if unsigned {
                        i64::from(v.cast_unsigned())
                    } else {
                        i64::from(v)
                    }
                });
                numbers = spread(column, &present, wide.collect());
            }
            _ => {
                return Err(ParquetError::General(
                    "a column of an unknown type".to_owned(),
                ));
            }
        }
        table.numbers.push(numbers);
        table.texts.push(texts);
    }
    Ok(table)
}

/// Values with the nulls between them.
fn spread<T>(column: &Column, present: &[i16], values: Vec<T>) -> Vec<Option<T>> {
    let mut values = values.into_iter();
    if column.nullable {
        present
            .iter()
            .map(|p| if *p == 0 { None } else { values.next() })
            .collect()
    } else {
        values.map(Some).collect()
    }
}

//! Builds the files of `torch.save` by hand: pickles of chosen instructions, archives of chosen records.

use std::io::{Cursor, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Instructions of a pickle, which may be as wrong as a test wants them.
#[derive(Default, Clone)]
pub struct Pickle(pub Vec<u8>);

impl Pickle {
    pub fn new() -> Self {
        Pickle(vec![0x80, 2])
    }

    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend(bytes.as_ref());
        self
    }

    pub fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n"))
    }

    pub fn text(self, text: &str) -> Self {
        self.raw([b'X']).raw((text.len() as u32).to_le_bytes()).raw(text)
    }

    /// As LONG1, which holds any i64.
    pub fn int(self, n: i64) -> Self {
        self.raw([0x8a, 8]).raw(n.to_le_bytes())
    }

    pub fn ints(self, all: &[i64]) -> Self {
        all.iter().fold(self.raw("("), |pickle, n| pickle.int(*n)).raw("t")
    }

    /// The start of a state dict: an empty OrderedDict and a mark.
    pub fn dict(self) -> Self {
        self.global("collections", "OrderedDict").raw(")R(")
    }

    /// The end of a state dict and of the pickle.
    pub fn end(self) -> Vec<u8> {
        self.raw("u.").0
    }

    /// A view into the storage `data/<key>` of `length` elements.
    pub fn tensor(self, class: &str, key: &str, length: i64, view: (i64, &[i64], &[i64])) -> Self {
        let (offset, shape, strides) = view;
        let storage = self.global("torch._utils", "_rebuild_tensor_v2").raw("((").text("storage");
        let storage = storage.global("torch", class).text(key).text("cpu").int(length).raw("tQ");
        let view = storage.int(offset).ints(shape).ints(strides);
        view.raw([0x89]).global("collections", "OrderedDict").raw(")RtR")
    }
}

/// An archive with these records in the folder `archive`, not compressed.
pub fn archive(records: &[(&str, &[u8])]) -> Vec<u8> {
    let named = records.iter().map(|(name, bytes)| (format!("archive/{name}"), *bytes));
    let named: Vec<(String, &[u8])> = named.collect();
    let named: Vec<(&str, &[u8])> = named.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    zip_of(&named, CompressionMethod::Stored)
}

pub fn zip_of(records: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in records {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A file of one float tensor `x`, its values in one storage.
pub fn floats(shape: &[i64], strides: &[i64], offset: i64, values: &[f32]) -> Vec<u8> {
    let data: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let view = (offset, shape, strides);
    let pickle = Pickle::new().dict().text("x").tensor("FloatStorage", "0", values.len() as i64, view).end();
    archive(&[("data.pkl", &pickle), ("data/0", &data), ("version", b"3\n")])
}

//! What the header of a safetensors file may say, and what a file is that has none.

use crate::error::Error;
use crate::hub;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use std::collections::HashSet;
use std::marker::PhantomData;
use std::path::Path;

/// Longest header that the format's reference implementation reads, in bytes.
pub(super) const MAX_HEADER: u64 = 100_000_000;

/// A JSON object with its keys in order, none twice; `__metadata__` is left out.
pub(super) struct UniqueMap<V>(pub Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for UniqueMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = UniqueMap<V>;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object with a key for each tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut seen = HashSet::new();
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if !seen.insert(key.clone()) {
                        return Err(A::Error::custom(format!("{key:?} is there twice")));
                    }
                    if key == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        entries.push((key, map.next_value()?));
                    }
                }
                Ok(UniqueMap(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// Parses a header and checks that its tensors cover the data exactly, without holes or overlaps.
pub(super) fn parse(path: &Path, json: &[u8]) -> crate::error::Result<Metadata> {
    let broken = |what: String| {
        Error::data(
            path.display(),
            format!("broken safetensors header: {what}; download or convert the file again"),
        )
    };
    let text = std::str::from_utf8(json).map_err(|e| broken(e.to_string()))?;
    let UniqueMap(mut entries) =
        serde_json::from_str::<UniqueMap<TensorInfo>>(text).map_err(|e| broken(e.to_string()))?;
    entries.sort_by_key(|(_, info)| info.data_offsets);
    Metadata::new(None, entries).map_err(|e| broken(e.to_string()))
}

/// Says what a file that is not safetensors looks like, from its first bytes.
pub(super) fn recognise(head: &[u8]) -> Option<&'static str> {
    let torch = head.starts_with(b"PK\x03\x04") || head.starts_with(b"\x80\x02");
    let renamed = "this is a PyTorch file under the name of another; name it pytorch_model.bin";
    hub::recognise(head).or(torch.then_some(renamed))
}

//! Every op against naive loops in f64: values, gradients, accumulation, threads and refusals.

mod activation;
mod adamw;
mod argmax;
mod attention_masked;
mod attention_precision;
mod bf16;
mod block_sparse_attention;
mod case;
mod cross_entropy;
mod decode_attention;
mod dense_attention;
mod device;
mod dropout;
mod embedding;
mod global_attention;
mod gradient_norm;
#[cfg(wattention_sim)]
mod hopper;
#[cfg(wattention_sim)]
mod hopper_maps;
mod layer_norm;
mod linear;
mod registry;
mod rows;
mod signature;
mod tape;
mod truth;
mod window_attention;

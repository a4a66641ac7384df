//! Attention is that of the formula, the same bits on every instruction set, and blind to companions.

mod common;

use common::{Random, all, bits};
use refract_kernel::{
    CHUNK, DistanceBias, Element, Isa, Kernels, KeyValueRows, MemoryShape, PAGE, Packed, Paged, Pages, Place,
    Reader,
};

/// One query over keys and values, in f64.
fn reference(
    q: &[f32],
    keys: &[Vec<f32>],
    values: &[Vec<f32>],
    scale: f32,
    bias: impl Fn(usize) -> f32,
) -> Vec<f64> {
    let scores: Vec<f64> = keys
        .iter()
        .enumerate()
        .map(|(i, k)| {
            let dot: f64 = q.iter().zip(k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            dot * f64::from(scale) + f64::from(bias(i))
        })
        .collect();
    let max = scores.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
    let sum: f64 = weights.iter().sum();
    (0..q.len())
        .map(|i| {
            values
                .iter()
                .zip(&weights)
                .map(|(v, w)| f64::from(v[i]) * w)
                .sum::<f64>()
                / sum
        })
        .collect()
}

fn close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    for (got, want) in got.iter().zip(want) {
        assert!(
            (f64::from(*got) - want).abs() <= tolerance * (1.0 + want.abs()),
            "{what}: {got}, not {want}"
        );
    }
}

/// A head's numbers as bytes hold them.
fn in_bytes(x: &[f32]) -> Vec<f32> {
    let mut bytes = vec![0; x.len()];
    let scale = refract_kernel::quantise_weights(x, &mut bytes);
    bytes.iter().map(|b| f32::from(*b) * scale).collect()
}

fn bias_value(head: usize, distance: i64) -> f32 {
    (distance as f32 * 0.07 + head as f32).sin()
}

#[test]
fn packed_sequences_attend_to_themselves_alone() {
    let mut random = Random::new(11);
    let shapes = [(1, 8), (3, 12), (2, 64), (4, 33), (2, 128)];
    for (heads, dim) in shapes {
        let lengths = [
            random.size(1, 20),
            1,
            random.size(40, 130),
            16,
            random.size(1, 70),
        ];
        let rows: usize = lengths.iter().sum();
        let inner = heads * dim;
        let qkv = random.numbers(rows * 3 * inner);
        let bias = DistanceBias::new(heads, 140, bias_value);
        for (bytes, bias) in [
            (false, None),
            (false, Some(&bias)),
            (true, None),
            (true, Some(&bias)),
        ] {
            let how = Packed {
                bytes,
                heads,
                head_dim: dim,
                scale: 0.3,
                lengths: &lengths,
                bias,
            };
            let mut first: Option<Vec<f32>> = None;
            for kernels in all() {
                let mut out = vec![f32::NAN; rows * inner];
                kernels.attend_packed(&how, &qkv, &mut out);
                match &first {
                    Some(want) => assert!(bits(&out) == bits(want), "{heads} heads of {dim}: {kernels:?}"),
                    None => first = Some(out),
                }
            }
            let out = first.expect("the reference ran");
            let part = |row: usize, which: usize, head: usize| {
                let part = &qkv[row * 3 * inner + which * inner + head * dim..][..dim];
                if bytes { in_bytes(part) } else { part.to_vec() }
            };
            let mut start = 0;
            for length in lengths {
                for position in [0, length / 2, length - 1] {
                    for head in 0..heads {
                        let keys: Vec<_> = (0..length).map(|i| part(start + i, 1, head)).collect();
                        let values: Vec<_> = (0..length).map(|i| part(start + i, 2, head)).collect();
                        let row = start + position;
                        let want = reference(&part(row, 0, head), &keys, &values, 0.3, |i| {
                            if bias.is_some() {
                                bias_value(head, i as i64 - position as i64)
                            } else {
                                0.0
                            }
                        });
                        close(
                            &out[row * inner + head * dim..][..dim],
                            &want,
                            if bytes { 4e-3 } else { 2e-5 },
                            &format!("{heads}×{dim} of {length}, bytes {bytes}"),
                        );
                    }
                }
                start += length;
            }
            // Alone, a sequence gets the same bits.
            let last = lengths[lengths.len() - 1];
            let kernels = Kernels::new(Isa::best(), 1).expect("available");
            let mut alone = vec![0.0; last * inner];
            let how = Packed {
                lengths: &lengths[lengths.len() - 1..],
                ..how
            };
            kernels.attend_packed(&how, &qkv[(rows - last) * 3 * inner..], &mut alone);
            assert!(bits(&alone) == bits(&out[(rows - last) * inner..]));
        }
    }
}

#[test]
fn new_tokens_attend_to_pages() {
    let mut random = Random::new(12);
    for (heads, dim) in [(2, 8), (3, 12), (2, 64), (1, 80), (2, 128)] {
        for element in [Element::F32, Element::Half, Element::Byte] {
            let shape = MemoryShape {
                layers: 2,
                heads,
                head_dim: dim,
                element,
            };
            let inner = heads * dim;
            let length = random.size(30, 90);
            // Keys and values in rows with something else around them.
            let (stride, keys_at, values_at) = (2 * inner + 5, 2, inner + 3);
            let rows = random.numbers(length * stride);
            let bias = DistanceBias::new(heads, 100, bias_value);
            let queries = 11;
            let q = random.numbers(queries * inner);
            for grows in [false, true] {
                let visible = if grows { length - queries + 1 } else { length };
                let mut first: Option<Vec<f32>> = None;
                for kernels in all() {
                    let mut pages = Pages::new(shape);
                    pages.grow();
                    pages.grow();
                    // Pages in no particular order.
                    let list: Vec<u32> = (0..length.div_ceil(PAGE) as u32)
                        .map(|i| (i * 7 + 3) % pages.count())
                        .collect();
                    let places: Vec<Place> = (0..length)
                        .map(|i| Place {
                            page: list[i / PAGE],
                            slot: (i % PAGE) as u32,
                        })
                        .collect();
                    let kv = KeyValueRows {
                        data: &rows,
                        stride,
                        keys: keys_at,
                        values: values_at,
                    };
                    pages.write(&kernels, 1, &places, kv);
                    let how = Paged {
                        pages: &pages,
                        layer: 1,
                        scale: 0.2,
                        bias: Some(&bias),
                    };
                    let mut out = vec![f32::NAN; queries * inner];
                    let reader = Reader {
                        pages: &list,
                        queries,
                        visible,
                        grows,
                    };
                    kernels.attend_paged(&how, &[reader], &q, inner, &mut out);
                    // One by one, the same bits.
                    for i in 0..queries {
                        let mut alone = vec![0.0; inner];
                        let visible = visible + if grows { i } else { 0 };
                        let reader = Reader {
                            pages: &list,
                            queries: 1,
                            visible,
                            grows,
                        };
                        kernels.attend_paged(&how, &[reader], &q[i * inner..][..inner], inner, &mut alone);
                        assert!(
                            bits(&alone) == bits(&out[i * inner..][..inner]),
                            "query {i} {kernels:?}"
                        );
                    }
                    match &first {
                        Some(want) => {
                            assert!(bits(&out) == bits(want), "{heads} heads of {dim}: {kernels:?}")
                        }
                        None => first = Some(out),
                    }
                }
                let out = first.expect("the reference ran");
                let held = |x: &[f32]| {
                    if element == Element::Byte {
                        in_bytes(x)
                    } else {
                        x.to_vec()
                    }
                };
                for i in 0..queries {
                    let visible = visible + if grows { i } else { 0 };
                    for head in 0..heads {
                        let part = |at: usize| {
                            (0..visible)
                                .map(move |p| p * stride + at + head * dim)
                                .collect::<Vec<usize>>()
                        };
                        let slices = |at: usize| {
                            part(at)
                                .into_iter()
                                .map(|s| held(&rows[s..s + dim]))
                                .collect::<Vec<_>>()
                        };
                        let want = reference(
                            &held(&q[i * inner + head * dim..][..dim]),
                            &slices(keys_at),
                            &slices(values_at),
                            0.2,
                            |k| bias_value(head, k as i64 - (visible as i64 - 1)),
                        );
                        let tolerance = match element {
                            Element::F32 => 2e-5,
                            Element::Half => 2e-2,
                            Element::Byte => 4e-3,
                        };
                        close(
                            &out[i * inner + head * dim..][..dim],
                            &want,
                            tolerance,
                            &format!("{element:?} {heads}×{dim}"),
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_copied_page_is_read_like_its_source() {
    let mut random = Random::new(13);
    let kernels = Kernels::new(Isa::best(), 1).expect("available");
    let shape = MemoryShape {
        layers: 1,
        heads: 2,
        head_dim: 16,
        element: Element::Half,
    };
    let mut pages = Pages::new(shape);
    pages.grow();
    let rows = random.numbers(PAGE * 64);
    let places: Vec<Place> = (0..PAGE as u32).map(|slot| Place { page: 2, slot }).collect();
    pages.write(
        &kernels,
        0,
        &places,
        KeyValueRows {
            data: &rows,
            stride: 64,
            keys: 0,
            values: 32,
        },
    );
    pages.copy(2, 5);
    let q = random.numbers(32);
    let read = |page: u32| {
        let mut out = vec![0.0; 32];
        let reader = Reader {
            pages: &[page],
            queries: 1,
            visible: 9,
            grows: false,
        };
        kernels.attend_paged(
            &Paged {
                pages: &pages,
                layer: 0,
                scale: 1.0,
                bias: None,
            },
            &[reader],
            &q,
            32,
            &mut out,
        );
        out
    };
    assert_eq!(bits(&read(2)), bits(&read(5)));
    assert_eq!(shape.page_bytes(), 2 * 2 * 16 * (16 + 16));
}

#[test]
fn what_a_later_query_brings_does_not_reach_those_before_it() {
    let mut random = Random::new(15);
    // A head of two vectors, of five, and of a half one.
    for (dim, length) in [(32, 40), (80, 49), (8, 34)] {
        for (element, number) in [
            (Element::F32, f32::INFINITY),
            (Element::F32, f32::NAN),
            // Beyond half precision.
            (Element::Half, 1e6),
        ] {
            for queries in 2..=5 {
                let mut rows = random.numbers(length * 2 * dim);
                // The last position's value; its key as well, where a query that sees it would be lost anyhow.
                rows[(length - 1) * 2 * dim + dim] = number;
                rows[(length - 1) * 2 * dim] = number;
                let q = random.numbers(queries * dim);
                for kernels in all() {
                    let mut pages = Pages::new(MemoryShape {
                        layers: 1,
                        heads: 1,
                        head_dim: dim,
                        element,
                    });
                    pages.grow();
                    let places: Vec<Place> = (0..length)
                        .map(|i| Place {
                            page: (i / PAGE) as u32,
                            slot: (i % PAGE) as u32,
                        })
                        .collect();
                    let kv = KeyValueRows {
                        data: &rows,
                        stride: 2 * dim,
                        keys: 0,
                        values: dim,
                    };
                    pages.write(&kernels, 0, &places, kv);
                    let how = Paged {
                        pages: &pages,
                        layer: 0,
                        scale: 0.2,
                        bias: None,
                    };
                    let reader = Reader {
                        pages: &[0, 1, 2, 3],
                        queries,
                        visible: length - queries + 1,
                        grows: true,
                    };
                    let mut out = vec![0.0; queries * dim];
                    kernels.attend_paged(&how, &[reader], &q, dim, &mut out);
                    let (sound, last) = out.split_at((queries - 1) * dim);
                    let what = format!("{element:?} {number}, {queries} queries of {dim}: {kernels:?}");
                    assert!(sound.iter().all(|x| x.is_finite()), "{what}");
                    assert!(last.iter().any(|x| !x.is_finite()), "{what}");
                }
            }
        }
    }
}

#[test]
fn pages_given_back_leave_those_before_them_as_they_were() {
    let kernels = Kernels::new(Isa::best(), 1).expect("available");
    let mut pages = Pages::new(MemoryShape {
        layers: 1,
        heads: 1,
        head_dim: 16,
        element: Element::F32,
    });
    pages.grow();
    pages.grow();
    assert_eq!(pages.count() as usize, 2 * CHUNK);
    let rows: Vec<f32> = (0..32).map(|i| i as f32).collect();
    let kv = KeyValueRows {
        data: &rows,
        stride: 32,
        keys: 0,
        values: 16,
    };
    let place = Place {
        page: CHUNK as u32 + 3,
        slot: 0,
    };
    pages.write(&kernels, 0, &[place], kv);
    pages.copy(place.page, 2);
    pages.shrink();
    assert_eq!(pages.count() as usize, CHUNK);
    let reader = Reader {
        pages: &[2],
        queries: 1,
        visible: 1,
        grows: false,
    };
    let how = Paged {
        pages: &pages,
        layer: 0,
        scale: 1.0,
        bias: None,
    };
    let mut out = [0.0; 16];
    kernels.attend_paged(&how, &[reader], &rows[..16], 16, &mut out);
    assert_eq!(out[..], rows[16..]);
}

#[test]
fn nan_in_one_sequence_stays_there_and_is_seen() {
    let mut random = Random::new(14);
    let lengths = [20, 37];
    // A key or a value, here or there.
    let places = [0, 5, 16, 19].map(|at| [(at, 16), (at, 40)]);
    for ((at, number), bytes) in places.into_iter().flatten().flat_map(|p| [(p, false), (p, true)]) {
        let mut qkv = random.numbers(57 * 3 * 16);
        qkv[at * 48 + number] = f32::NAN;
        for kernels in all() {
            let mut out = vec![0.0; 57 * 16];
            kernels.attend_packed(
                &Packed {
                    heads: 1,
                    head_dim: 16,
                    scale: 1.0,
                    lengths: &lengths,
                    bias: None,
                    bytes,
                },
                &qkv,
                &mut out,
            );
            // A value is one number of the mix; in bytes it takes its head with it.
            for row in out[..20 * 16].chunks(16) {
                let alone = number == 40 && !bytes;
                let nan = |(i, x): (usize, &f32)| x.is_nan() == (!alone || i == 8);
                assert!(row.iter().enumerate().all(nan), "{at} {number} {kernels:?}");
            }
            assert!(out[20 * 16..].iter().all(|x| x.is_finite()), "{at} {kernels:?}");
        }
    }
}

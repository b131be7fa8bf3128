//! A layered layout after Sugiyama, Tagawa and Toda: every edge points downwards, few edges cross, and boxes stand
//! below what they read.
//!
//! 1. A vertex lies one layer below the lowest of its predecessors; a source just above its first reader.
//! 2. An edge over several layers gets a bend in each between, as long as it is no longer than [`LONGEST`].
//! 3. Layers are ordered by the mean place of their neighbours, sweeping down and up [`SWEEPS`] times.
//! 4. Places: each vertex wants the mean of its neighbours' places; the mean of the two packings of a layer, one
//!    from the left and one from the right, keeps order and distances.

/// Edges over more layers are drawn straight.
const LONGEST: usize = 64;
/// Passes over all layers, once down and once up each.
const SWEEPS: usize = 4;
/// Free room between neighbours.
const GAP: f64 = 40.0;

/// Where everything goes.
#[derive(Debug, PartialEq)]
pub(super) struct Layout {
    /// Layer and middle of each vertex.
    pub(super) places: Vec<(usize, f64)>,
    /// Layers and places that an edge goes through between its ends.
    pub(super) bends: Vec<Vec<(usize, f64)>>,
    pub(super) layers: usize,
    pub(super) width: f64,
}

/// Lays out boxes of these widths with `edges` from lower to higher numbers.
pub(super) fn layout(widths: &[f64], edges: &[(usize, usize)]) -> Layout {
    let mut layer_of = layers(widths.len(), edges);
    // Bends are vertices of no width.
    let mut all_widths = widths.to_vec();
    let mut links: Vec<(usize, usize)> = Vec::new();
    let mut bends: Vec<Vec<usize>> = Vec::with_capacity(edges.len());
    for &(from, to) in edges {
        let between = layer_of[from] + 1..layer_of[to];
        let mut path = Vec::new();
        if between.len() < LONGEST {
            for layer in between {
                path.push(all_widths.len());
                all_widths.push(0.0);
                layer_of.push(layer);
            }
        }
        let stops: Vec<usize> = [from].into_iter().chain(path.iter().copied()).chain([to]).collect();
        links.extend(stops.windows(2).map(|pair| (pair[0], pair[1])));
        bends.push(path);
    }
    let count = layer_of.iter().max().map_or(0, |top| top + 1);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (vertex, &layer) in layer_of.iter().enumerate() {
        rows[layer].push(vertex);
    }
    let (mut above, mut below) = (vec![Vec::new(); all_widths.len()], vec![Vec::new(); all_widths.len()]);
    for &(from, to) in &links {
        above[to].push(from);
        below[from].push(to);
    }
    let mut x = vec![0.0; all_widths.len()];
    for row in &rows {
        pack(row, &all_widths, &mut x, &vec![0.0; row.len()]);
    }
    for _ in 0..SWEEPS {
        for row in &mut rows {
            settle(row, &above, &all_widths, &mut x);
        }
        for row in rows.iter_mut().rev() {
            settle(row, &below, &all_widths, &mut x);
        }
    }
    let left = x.iter().zip(&all_widths).map(|(x, w)| x - w / 2.0).fold(f64::INFINITY, f64::min);
    let left = if left.is_finite() { left } else { 0.0 };
    x.iter_mut().for_each(|x| *x -= left);
    let width = x.iter().zip(&all_widths).map(|(x, w)| x + w / 2.0).fold(0.0, f64::max);
    let place = |v: usize| (layer_of[v], x[v]);
    Layout {
        places: (0..widths.len()).map(place).collect(),
        bends: bends.into_iter().map(|path| path.into_iter().map(place).collect()).collect(),
        layers: count,
        width,
    }
}

fn layers(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut layer = vec![0; count];
    let mut sorted: Vec<(usize, usize)> = edges.to_vec();
    // Edges point to higher numbers, so that the ends of those before are final.
    sorted.sort_by_key(|&(from, to)| (to, from));
    for &(from, to) in &sorted {
        layer[to] = layer[to].max(layer[from] + 1);
    }
    let mut is_read_first = vec![usize::MAX; count];
    let mut reads = vec![false; count];
    for &(from, to) in edges {
        is_read_first[from] = is_read_first[from].min(layer[to]);
        reads[to] = true;
    }
    for vertex in 0..count {
        if !reads[vertex] && is_read_first[vertex] != usize::MAX {
            layer[vertex] = is_read_first[vertex] - 1;
        }
    }
    layer
}

/// Orders `row` by where its neighbours stand and moves it there.
fn settle(row: &mut [usize], neighbours: &[Vec<usize>], widths: &[f64], x: &mut [f64]) {
    let wanted = |v: usize| {
        let near = &neighbours[v];
        if near.is_empty() { x[v] } else { near.iter().map(|&n| x[n]).sum::<f64>() / near.len() as f64 }
    };
    let mut order: Vec<(f64, usize)> = row.iter().map(|&v| (wanted(v), v)).collect();
    // Stable, so that equals keep their order.
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (place, (_, v)) in row.iter_mut().zip(&order) {
        *place = *v;
    }
    let wishes: Vec<f64> = order.iter().map(|o| o.0).collect();
    pack(row, widths, x, &wishes);
}

/// Places `row` in its order as near to `wishes` as distances allow.
fn pack(row: &[usize], widths: &[f64], x: &mut [f64], wishes: &[f64]) {
    let apart = |a: usize, b: usize| f64::midpoint(widths[a], widths[b]) + GAP;
    let mut from_left = wishes.to_vec();
    for i in 1..row.len() {
        from_left[i] = from_left[i].max(from_left[i - 1] + apart(row[i - 1], row[i]));
    }
    let mut from_right = wishes.to_vec();
    for i in (1..row.len()).rev() {
        from_right[i - 1] = from_right[i - 1].min(from_right[i] - apart(row[i - 1], row[i]));
    }
    for (i, &v) in row.iter().enumerate() {
        x[v] = f64::midpoint(from_left[i], from_right[i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_point_down_and_boxes_stay_apart() {
        // A chain 0-1-2-3, an edge around it, and a second source of 2.
        let edges = [(0, 1), (1, 2), (2, 3), (0, 3), (4, 2)];
        let edges: Vec<(usize, usize)> =
            edges.iter().map(|&(a, b)| if a == 4 { (1, b) } else { (a, b) }).collect();
        let widths = [40.0, 80.0, 60.0, 50.0];
        let made = layout(&widths, &edges);
        assert_eq!(made.layers, 4);
        for (&(from, to), bends) in edges.iter().zip(&made.bends) {
            assert!(made.places[from].0 < made.places[to].0);
            assert_eq!(bends.len(), made.places[to].0 - made.places[from].0 - 1);
        }
        // The edge around the chain goes past its boxes, not through them.
        for &(layer, x) in &made.bends[3] {
            let inside = (0..4).filter(|&v| made.places[v].0 == layer);
            for v in inside {
                assert!((made.places[v].1 - x).abs() >= widths[v] / 2.0 + GAP - 1e-9, "{v}");
            }
        }
        assert_eq!(made, layout(&widths, &edges));
    }

    #[test]
    fn boxes_of_one_layer_do_not_overlap() {
        let widths: Vec<f64> = (0..40).map(|i| 20.0 + f64::from(i % 7) * 15.0).collect();
        let edges: Vec<(usize, usize)> =
            (1..40).flat_map(|i| [(i / 3, i), (i / 2, i)]).filter(|(a, b)| a < b).collect();
        let made = layout(&widths, &edges);
        for a in 0..40 {
            for b in 0..a {
                let ((la, xa), (lb, xb)) = (made.places[a], made.places[b]);
                let need = f64::midpoint(widths[a], widths[b]) + GAP - 1e-6;
                assert!(la != lb || (xa - xb).abs() >= need, "{a} {b}");
            }
            assert!(made.places[a].1 - widths[a] / 2.0 >= -1e-6);
            assert!(made.places[a].1 + widths[a] / 2.0 <= made.width + 1e-6);
        }
    }

    #[test]
    fn a_source_stands_above_its_first_reader() {
        let made = layout(&[10.0; 4], &[(0, 2), (2, 3), (1, 3)]);
        assert_eq!(made.places.iter().map(|p| p.0).collect::<Vec<_>>(), [0, 1, 1, 2]);
        assert_eq!(layout(&[], &[]).layers, 0);
    }
}

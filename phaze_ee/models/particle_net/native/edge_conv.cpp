// One EdgeConv block of ParticleNet (arXiv:1902.08570) for inference, jet by jet, so that a jet stays in the cache.
//
// The weights are folded (particle_net/folding.py): the outputs of the layer on particles are, side by side, the part
// of the first edge layer that depends on the particle itself, the part that depends on its neighbour and, if it has a
// layer, the shortcut. The other edge layers follow. All matrices are row-major, without gaps between rows.
//
// Each number is the sum of the same products in the same order, for any tile, thread and other jets. Products with a
// zero input are left out, which changes no sum.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include "layer.hpp"

namespace {

// Approximate number of edges that go through the edge layers together: few enough for the cache.
constexpr Index edges_together = 48;

template <class T>
struct Block {
    Index k;
    Index channels;  // of the first edge layer
    Index dimensions;  // in which neighbours are searched
    Index edge_layers;
    Layer<T> particle_layer;
    const Layer<T>* edge_layer;

    bool has_shortcut_layer() const { return particle_layer.outputs > 2 * channels; }
    Index outputs() const { return edge_layers > 0 ? edge_layer[edge_layers - 1].outputs : channels; }
    Index particles_together() const { return std::max<Index>(1, edges_together / k); }
};

// A row of keys that sort by distance, and by position if distances are equal. Distances are not negative, so their
// bits have the same order; sorting bits is safe if distances are NaN.
template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
template <class T>
using Keys = std::vector<std::pair<Bits<T>, std::int32_t>>;

template <class T>
struct JetScratch {
    Buffer<T> transposed, distances, particles;
    Keys<T> keys;
    std::vector<std::int32_t> neighbours;
    UsedInputs<T> used;
};

template <class T>
struct EdgeScratch {
    Buffer<T> edges, other_edges, zeros;
    UsedInputs<T> used;
};

template <class T>
void square_distances(const T* __restrict point, const T* __restrict transposed, Index count, Index dimensions,
                      T* __restrict distance) {
    std::fill(distance, distance + count, T{0});
    for (Index d = 0; d < dimensions; ++d)
        for (Index other = 0; other < count; ++other) {
            const T difference = point[d] - transposed[d * count + other];
            distance[other] += difference * difference;
        }
}

// The k nearest particles of each particle, without the particle itself; ``count`` for a missing one.
template <class T>
void find_neighbours(const T* points, Index count, Index dimensions, Index k, JetScratch<T>& scratch) {
    T* transposed = scratch.transposed.holding(count * dimensions);
    T* distance = scratch.distances.holding(count);
    for (Index particle = 0; particle < count; ++particle)
        for (Index d = 0; d < dimensions; ++d) transposed[d * count + particle] = points[particle * dimensions + d];
    const Index found = std::min(k, count - 1);
    Keys<T>& keys = scratch.keys;
    scratch.neighbours.assign(count * k, static_cast<std::int32_t>(count));
    for (Index particle = 0; particle < count; ++particle) {
        square_distances(points + particle * dimensions, transposed, count, dimensions, distance);
        keys.clear();
        for (Index other = 0; other < count; ++other) {
            Bits<T> bits;
            std::memcpy(&bits, distance + other, sizeof bits);
            if (other != particle) keys.emplace_back(bits, static_cast<std::int32_t>(other));
        }
        if (found < count - 1) std::nth_element(keys.begin(), keys.begin() + found, keys.end());
        for (Index n = 0; n < found; ++n) scratch.neighbours[particle * k + n] = keys[n].second;
    }
}

template <class T>
void add_rectified(const T* __restrict own, const T* __restrict other, Index count, T* __restrict sum) {
    for (Index c = 0; c < count; ++c) sum[c] = relu(own[c] + other[c]);
}

// The sum over the edges of a particle, added to the shortcut.
template <class T>
void add_edges(const T* __restrict shortcut, const T* __restrict edge, Index width, Index k, Index count,
               T* __restrict out) {
    std::copy(shortcut, shortcut + count, out);
    for (Index n = 0; n < k; ++n)
        for (Index c = 0; c < count; ++c) out[c] += edge[n * width + c];
    for (Index c = 0; c < count; ++c) out[c] = relu(out[c]);
}

// A jet in the block: finds the neighbours, and applies the layer on particles.
template <class T>
struct Jet {
    const T* features;
    const T* particles;
    const std::int32_t* neighbours;
    Index count;
};

template <class T>
Jet<T> prepare(const Block<T>& block, const T* features, const T* points, Index count, JetScratch<T>& scratch) {
    find_neighbours(points, count, block.dimensions, block.k, scratch);
    T* particles = scratch.particles.holding(count * block.particle_layer.width());
    apply(block.particle_layer, features, block.particle_layer.inputs, count, particles, false, scratch.used);
    return {features, particles, scratch.neighbours.data(), count};
}

// The edges of some particles of a jet, after the first edge layer.
template <class T>
T* first_edge_layer(const Block<T>& block, const Jet<T>& jet, Index start, Index stop, EdgeScratch<T>& scratch) {
    const Index width = block.particle_layer.width(), edge_width = padded<T>(block.channels);
    const T* missing = scratch.zeros.holding(block.channels);
    T* edges = scratch.edges.holding((stop - start) * block.k * edge_width);
    for (Index particle = start; particle < stop; ++particle)
        for (Index n = 0; n < block.k; ++n) {
            const Index neighbour = jet.neighbours[particle * block.k + n];
            add_rectified(
                jet.particles + particle * width,
                neighbour < jet.count ? jet.particles + neighbour * width + block.channels : missing, block.channels,
                edges + ((particle - start) * block.k + n) * edge_width
            );
        }
    return edges;
}

// The features of some particles of a jet after the block. ``out`` points to the first particle of the jet.
template <class T>
void run_particles(
    const Block<T>& block, const Jet<T>& jet, Index start, Index stop, EdgeScratch<T>& scratch, T* out
) {
    const Index edge_count = (stop - start) * block.k;
    const T* edges = first_edge_layer(block, jet, start, stop, scratch);
    Index edge_width = padded<T>(block.channels);
    for (Index l = 0; l < block.edge_layers; ++l) {
        const Layer<T>& layer = block.edge_layer[l];
        T* next = (l % 2 == 0 ? scratch.other_edges : scratch.edges).holding(edge_count * layer.width());
        apply(layer, edges, edge_width, edge_count, next, true, scratch.used);
        edges = next;
        edge_width = layer.width();
    }
    for (Index particle = start; particle < stop; ++particle) {
        const T* shortcut = block.has_shortcut_layer()
                                ? jet.particles + particle * block.particle_layer.width() + 2 * block.channels
                                : jet.features + particle * block.particle_layer.inputs;
        add_edges(
            shortcut, edges + (particle - start) * block.k * edge_width, edge_width, block.k, block.outputs(),
            out + particle * block.outputs()
        );
    }
}

template <class T>
void run_jets(const Block<T>& block, const T* features, const T* points, const Index* first, Index jets, T* out) {
    static thread_local JetScratch<T> jet_scratch;
    static thread_local EdgeScratch<T> edge_scratch;
    const Index step = block.particles_together();
    for (Index number = 0; number < jets; ++number) {
        const Index begin = first[number], count = first[number + 1] - begin;
        const Jet<T> jet = prepare(
            block, features + begin * block.particle_layer.inputs, points + begin * block.dimensions, count, jet_scratch
        );
        for (Index start = 0; start < count; start += step)
            run_particles(
                block, jet, start, std::min(start + step, count), edge_scratch, out + begin * block.outputs()
            );
    }
}

}  // namespace

extern "C" {

// Columns of a panel of weights.
Index panel_float() { return Simd<float>::panel; }
Index panel_double() { return Simd<double>::panel; }

// One block on some jets. ``first`` holds the first particle of each jet, and the end of the last jet. Several threads
// may call it. Returns false if memory runs out.
bool run_float(
    const Block<float>* block, const float* features, const float* points, const Index* first, Index jets, float* out
) try {
    run_jets(*block, features, points, first, jets, out);
    return true;
} catch (const std::bad_alloc&) {
    return false;
}
bool run_double(
    const Block<double>* block, const double* features, const double* points, const Index* first, Index jets,
    double* out
) try {
    run_jets(*block, features, points, first, jets, out);
    return true;
} catch (const std::bad_alloc&) {
    return false;
}
}

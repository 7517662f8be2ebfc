// One EdgeConv block of ParticleNet (arXiv:1902.08570) for inference, jet by jet, so that a jet stays in the cache.
//
// The weights arrive folded (phaze_ee/models/folding.py): a layer on particles gives, side by side, the part of the
// first edge layer that depends on the particle itself, the part that depends on its neighbour, and the shortcut where
// that is a layer; the other edge layers follow. All matrices are row-major, without gaps between rows.
//
// Every number is the sum of the same products in the same order, whatever the tile, the thread or the other jets are.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <new>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using Index = std::int64_t;

#if defined(__AVX512F__)
constexpr int vector_bytes = 64, vector_registers = 32;
#elif defined(__AVX__)
constexpr int vector_bytes = 32, vector_registers = 16;
#elif defined(__aarch64__)
constexpr int vector_bytes = 16, vector_registers = 32;
#else
constexpr int vector_bytes = 16, vector_registers = 16;
#endif

// A tile of a product is held in registers: so many rows, of so many vectors each. The rest of the registers hold the
// operands.
constexpr int tile_vectors = 2;
constexpr int tile_rows = vector_registers == 32 ? 12 : 6;

// Edges that go through the edge layers together, about: few enough for the cache, many enough to reuse the weights.
constexpr Index edges_together = 96;

template <class T>
struct Simd {
    typedef T Vector __attribute__((vector_size(vector_bytes)));
    static constexpr int length = vector_bytes / sizeof(T);
    static constexpr int panel = tile_vectors * length;

    static Vector load(const T* from) {
        Vector value;
        std::memcpy(&value, from, sizeof value);
        return value;
    }
};

template <class T>
Index padded(Index columns) {
    return (columns + Simd<T>::panel - 1) / Simd<T>::panel * Simd<T>::panel;
}

// A layer on rows, x -> x · weight + bias. The weight is cut into panels of Simd::panel columns, each stored row after
// row; the last panel and the bias are filled up with zeros.
template <class T>
struct Layer {
    const T* weight;
    const T* bias;
    Index inputs;
    Index outputs;

    Index width() const { return padded<T>(outputs); }  // of a row of the result
};

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

// Not a number stays not a number.
template <class T>
T relu(T value) {
    return value < 0 ? 0 : value;
}

// Memory that a thread keeps, so that it is not asked for again at every call.
template <class T>
class Buffer {
    std::vector<typename Simd<T>::Vector> memory;

public:
    T* holding(Index count) {
        const std::size_t vectors = count / Simd<T>::length + 1;
        if (memory.size() < vectors) memory.resize(vectors);
        return reinterpret_cast<T*>(memory.data());
    }
};

// A row of keys that sort by distance, and by position where distances are equal. Distances are not negative, so their
// bits sort as they do; sorting bits is safe where distances are not numbers.
template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
template <class T>
using Keys = std::vector<std::pair<Bits<T>, std::int32_t>>;

template <class T>
struct Scratch {
    Buffer<T> transposed, distances, particles, edges, other_edges, zeros;
    Keys<T> keys;
    std::vector<std::int32_t> neighbours;
};

// A tile of the result, rows · panel + bias.
template <class T, int Rows>
void multiply_tile(
    const T* rows, Index row_stride, const T* panel, Index depth, const T* bias, T* result, Index result_stride,
    bool rectify
) {
    using V = typename Simd<T>::Vector;
    constexpr int length = Simd<T>::length;
    V sum[Rows][tile_vectors];
#pragma GCC unroll 16
    for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 2
        for (int v = 0; v < tile_vectors; ++v) sum[row][v] = Simd<T>::load(bias + v * length);
    for (Index input = 0; input < depth; ++input) {
        V weight[tile_vectors];
#pragma GCC unroll 2
        for (int v = 0; v < tile_vectors; ++v) weight[v] = Simd<T>::load(panel + (input * tile_vectors + v) * length);
#pragma GCC unroll 16
        for (int row = 0; row < Rows; ++row) {
            const T value = rows[row * row_stride + input];
#pragma GCC unroll 2
            for (int v = 0; v < tile_vectors; ++v) sum[row][v] += weight[v] * value;
        }
    }
#pragma GCC unroll 16
    for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 2
        for (int v = 0; v < tile_vectors; ++v) {
            const V value = rectify ? (sum[row][v] < 0 ? V{} : sum[row][v]) : sum[row][v];
            std::memcpy(result + row * result_stride + v * length, &value, sizeof value);
        }
}

template <class T, int Rows = tile_rows - 1, class... Arguments>
void multiply_last_rows(Index count, Arguments... arguments) {
    if constexpr (Rows > 0) {
        if (count == Rows)
            multiply_tile<T, Rows>(arguments...);
        else
            multiply_last_rows<T, Rows - 1>(count, arguments...);
    }
}

// rows · weight + bias, into rows of layer.width() columns.
template <class T>
void apply(const Layer<T>& layer, const T* rows, Index row_stride, Index count, T* result, bool rectify) {
    const Index width = layer.width(), whole_tiles = count / tile_rows * tile_rows;
    for (Index column = 0; column < width; column += Simd<T>::panel) {
        const T* panel = layer.weight + column * layer.inputs;
        const T* bias = layer.bias + column;
        for (Index row = 0; row < whole_tiles; row += tile_rows)
            multiply_tile<T, tile_rows>(
                rows + row * row_stride, row_stride, panel, layer.inputs, bias, result + row * width + column, width,
                rectify
            );
        multiply_last_rows<T>(
            count - whole_tiles, rows + whole_tiles * row_stride, row_stride, panel, layer.inputs, bias,
            result + whole_tiles * width + column, width, rectify
        );
    }
}

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

// The k nearest particles of each, the particle itself left out; ``count`` stands for one that is missing.
template <class T>
void find_neighbours(const T* points, Index count, Index dimensions, Index k, Scratch<T>& scratch) {
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

// The features of one jet after the block.
template <class T>
void run_jet(const Block<T>& block, const T* features, const T* points, Index count, Scratch<T>& scratch, T* out) {
    find_neighbours(points, count, block.dimensions, block.k, scratch);
    const Index inputs = block.particle_layer.inputs, width = block.particle_layer.width();
    T* particles = scratch.particles.holding(count * width);
    apply(block.particle_layer, features, inputs, count, particles, false);
    const T* missing = scratch.zeros.holding(block.channels);

    const Index first_width = padded<T>(block.channels), step = block.particles_together();
    for (Index start = 0; start < count; start += step) {
        const Index together = std::min(step, count - start);
        T* edges = scratch.edges.holding(step * block.k * first_width);
        T* other_edges = nullptr;
        for (Index edge = 0; edge < together * block.k; ++edge) {
            const Index neighbour = scratch.neighbours[start * block.k + edge];
            add_rectified(
                particles + (start + edge / block.k) * width,
                neighbour < count ? particles + neighbour * width + block.channels : missing, block.channels,
                edges + edge * first_width
            );
        }
        Index edge_width = first_width;
        bool swapped = false;
        for (Index l = 0; l < block.edge_layers; ++l) {
            const Layer<T>& layer = block.edge_layer[l];
            Buffer<T>& target = swapped ? scratch.edges : scratch.other_edges;
            other_edges = target.holding(step * block.k * layer.width());
            apply(layer, edges, edge_width, together * block.k, other_edges, true);
            edges = other_edges;
            edge_width = layer.width();
            swapped = !swapped;
        }
        for (Index p = 0; p < together; ++p) {
            const Index particle = start + p;
            const T* shortcut = block.has_shortcut_layer() ? particles + particle * width + 2 * block.channels
                                                           : features + particle * inputs;
            add_edges(
                shortcut, edges + p * block.k * edge_width, edge_width, block.k, block.outputs(),
                out + particle * block.outputs()
            );
        }
    }
}

// Jets go to whichever thread is free; the result does not depend on it. False where memory runs out.
template <class T>
bool run_jets(
    const Block<T>& block, const T* features, const T* points, const Index* first, Index jets, Index threads, T* out
) {
    std::atomic<Index> next{0};
    std::atomic<bool> succeeded{true};
    const auto work = [&]() noexcept {
        static thread_local Scratch<T> scratch;
        try {
            for (Index jet; (jet = next++) < jets;)
                run_jet(
                    block, features + first[jet] * block.particle_layer.inputs, points + first[jet] * block.dimensions,
                    first[jet + 1] - first[jet], scratch, out + first[jet] * block.outputs()
                );
        } catch (const std::bad_alloc&) {
            succeeded = false;
        }
    };
    std::vector<std::thread> others;
    try {
        for (Index other = 1; other < std::min(threads, jets); ++other) others.emplace_back(work);
    } catch (const std::system_error&) {  // no more threads are to be had: those that run share the jets
    }
    work();
    for (std::thread& other : others) other.join();
    return succeeded;
}

}  // namespace

extern "C" {

// Columns of a panel of weights.
Index panel_float() { return Simd<float>::panel; }
Index panel_double() { return Simd<double>::panel; }

// One block on all jets. ``first`` holds the first particle of each jet, and the number of all particles at the end.
bool run_float(
    const Block<float>* block, const float* features, const float* points, const Index* first, Index jets,
    Index threads, float* out
) {
    return run_jets(*block, features, points, first, jets, threads, out);
}
bool run_double(
    const Block<double>* block, const double* features, const double* points, const Index* first, Index jets,
    Index threads, double* out
) {
    return run_jets(*block, features, points, first, jets, threads, out);
}
}

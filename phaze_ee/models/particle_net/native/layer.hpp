// Products of rows with the weights of a layer, in tiles that are held in registers.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
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

// A tile of a product is held in registers: this number of rows, with this number of vectors each. The other registers
// hold the operands.
constexpr int tile_vectors = 2;
constexpr int tile_rows = vector_registers == 32 ? 8 : 4;

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
// row; the last panel and the bias are padded with zeros.
template <class T>
struct Layer {
    const T* weight;
    const T* bias;
    Index inputs;
    Index outputs;

    Index width() const { return padded<T>(outputs); }  // of a row of the result
};

// NaN stays NaN.
template <class T>
T relu(T value) {
    return value < 0 ? 0 : value;
}

// Memory that a thread keeps between calls.
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

// A list of inputs.
struct Inputs {
    const std::int32_t* number;
    Index count;
};

// The inputs that are not zero in all rows of a tile. After a ReLU these are only about half of the inputs, because the
// rows of a tile are mostly edges of one particle, which are similar. Zeros add nothing to the result and are left out.
template <class T>
class UsedInputs {
    std::vector<std::int32_t> numbers;
    std::vector<Inputs> tiles;
    Buffer<T> nonzero;

public:
    void find(const T* rows, Index stride, Index count, Index depth) {
        numbers.resize((count + tile_rows) / tile_rows * (depth + 1));
        tiles.clear();
        std::int32_t* number = numbers.data();
        for (Index first = 0; first < count; first += tile_rows) {
            const Index used =
                find_in_tile(rows + first * stride, stride, std::min<Index>(tile_rows, count - first), depth, number);
            tiles.push_back({number, used});
            number += used;
        }
    }

    const Inputs& in_tile(Index tile) const { return tiles[tile]; }

private:
    Index find_in_tile(const T* rows, Index stride, Index count, Index depth, std::int32_t* number) {
        T* __restrict seen = nonzero.holding(depth);
        std::fill(seen, seen + depth, T{0});
        for (Index row = 0; row < count; ++row)
            for (Index input = 0; input < depth; ++input) {
                const T value = rows[row * stride + input];
                seen[input] = value != 0 ? T{1} : seen[input];
            }
        Index used = 0;
        for (Index input = 0; input < depth; ++input) {
            number[used] = static_cast<std::int32_t>(input);
            used += seen[input] != 0;
        }
        return used;
    }
};

// A tile of the result, rows · panel + bias.
template <class T, int Rows>
void multiply_tile(
    const T* rows, Index row_stride, const T* panel, Inputs used, const T* bias, T* result, Index result_stride,
    bool rectify
) {
    using V = typename Simd<T>::Vector;
    constexpr int length = Simd<T>::length;
    V sum[Rows][tile_vectors];
#pragma GCC unroll 16
    for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 2
        for (int v = 0; v < tile_vectors; ++v) sum[row][v] = Simd<T>::load(bias + v * length);
    for (Index n = 0; n < used.count; ++n) {
        const Index input = used.number[n];
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
void apply(
    const Layer<T>& layer, const T* rows, Index row_stride, Index count, T* result, bool rectify, UsedInputs<T>& used
) {
    used.find(rows, row_stride, count, layer.inputs);
    const Index width = layer.width(), whole_tiles = count / tile_rows;
    for (Index column = 0; column < width; column += Simd<T>::panel) {
        const T* panel = layer.weight + column * layer.inputs;
        const T* bias = layer.bias + column;
        for (Index tile = 0; tile < whole_tiles; ++tile)
            multiply_tile<T, tile_rows>(
                rows + tile * tile_rows * row_stride, row_stride, panel, used.in_tile(tile), bias,
                result + tile * tile_rows * width + column, width, rectify
            );
        if (const Index last = whole_tiles * tile_rows; last < count)
            multiply_last_rows<T>(
                count - last, rows + last * row_stride, row_stride, panel, used.in_tile(whole_tiles), bias,
                result + last * width + column, width, rectify
            );
    }
}

}  // namespace

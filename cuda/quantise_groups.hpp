// SPDX-License-Identifier: Apache-2.0
// The bodies of the quantisation kernels (what they write: group_codes.hpp).
#pragma once

#include <cstdint>

#include "cuda/float_bits.hpp"
#include "cuda/group_codes.hpp"
#include "cuda/lane.hpp"

namespace lmcache::detail {

// How elements lie in memory. A step is what becomes one vector of codes.
inline constexpr std::uint32_t kStepElements = sizeof(Vector);

struct Bfloat16 {
  using Stored = std::uint16_t;
  static LMC_KERNEL_BODY float widened(Stored code) { return float_of_bfloat16(code); }
  static LMC_KERNEL_BODY Stored narrowed(float value) { return bfloat16_of(value); }
};
struct Float16 {
  using Stored = std::uint16_t;
  static LMC_KERNEL_BODY float widened(Stored code) { return float_of_float16(code); }
  static LMC_KERNEL_BODY Stored narrowed(float value) { return float16_of(value); }
};
struct Float32 {
  using Stored = std::uint32_t;
  static LMC_KERNEL_BODY float widened(Stored code) { return float_of(code); }
  static LMC_KERNEL_BODY Stored narrowed(float value) { return bits_of(value); }
};

struct Fp8Code {
  static constexpr float kLargest = 448.0f;
  static LMC_KERNEL_BODY std::uint8_t encode(float value) { return fp8_of(value); }
  static LMC_KERNEL_BODY float decode(std::uint8_t code) { return float_of_fp8(code); }
};
struct Int8Code {
  static constexpr float kLargest = 127.0f;
  static LMC_KERNEL_BODY std::uint8_t encode(float value) { return int8_of(value); }
  static LMC_KERNEL_BODY float decode(std::uint8_t code) { return float_of_int8(code); }
};

inline constexpr float kSmallestScale = 0x1p-126f;
inline constexpr float kLargestFloat = 0x1.fffffep127f;

// A view of 16 bytes as the values they hold; the shifts are those of a little-endian machine, as
// every CUDA host is.
template <class Stored>
LMC_KERNEL_BODY Stored part(Vector const& vector, std::uint32_t i) {
  constexpr std::uint32_t kPerWord = 4 / sizeof(Stored);
  return static_cast<Stored>(vector.words[i / kPerWord] >> (i % kPerWord * 8 * sizeof(Stored)));
}
template <class Stored>
LMC_KERNEL_BODY void add_part(Vector& vector, std::uint32_t i, Stored value) {
  constexpr std::uint32_t kPerWord = 4 / sizeof(Stored);
  vector.words[i / kPerWord] |= static_cast<std::uint32_t>(value)
                                << (i % kPerWord * 8 * sizeof(Stored));
}

// Calls `take(i, value)` for the elements [0, count) at `from`; whole steps by vectors.
template <class Element, class Take>
LMC_KERNEL_BODY void each_element(typename Element::Stored const* from, std::uint32_t count,
                                  Take take) {
  constexpr std::uint32_t kPerVector = sizeof(Vector) / sizeof(typename Element::Stored);
  std::uint32_t done = 0;
  LMC_ROLLED
  for (; done + kPerVector <= count; done += kPerVector) {
    Vector const vector = *reinterpret_cast<Vector const*>(from + done);
    LMC_UNROLL
    for (std::uint32_t i = 0; i < kPerVector; ++i) {
      take(Element::widened(part<typename Element::Stored>(vector, i)));
    }
  }
  LMC_ROLLED
  for (; done < count; ++done) take(Element::widened(from[done]));
}

template <class Element, class Code>
LMC_KERNEL_BODY float group_scale(typename Element::Stored const* from, std::uint32_t count) {
  std::uint32_t largest = 0;  // as bits: magnitudes of floats are ordered as their bits are
  each_element<Element>(from, count, [&largest](float value) {
    std::uint32_t const magnitude = magnitude_of(value);
    if (magnitude < kInfinityBits && magnitude > largest) largest = magnitude;
  });
  float const scale = float_of(largest) / Code::kLargest;
  return scale > kSmallestScale ? scale : kSmallestScale;
}

template <class Element, class Code>
LMC_KERNEL_BODY void quantise_group(typename Element::Stored const* from, std::uint8_t* codes,
                                    float* scale_out, std::uint32_t count) {
  constexpr std::uint32_t kPerVector = sizeof(Vector) / sizeof(typename Element::Stored);
  float const scale = group_scale<Element, Code>(from, count);
  *scale_out = scale;
  float const inverse = 1.0f / scale;
  std::uint32_t done = 0;
  LMC_ROLLED
  for (; done + kStepElements <= count; done += kStepElements) {
    Vector out{};
    LMC_UNROLL
    for (std::uint32_t v = 0; v < kStepElements / kPerVector; ++v) {
      Vector const in = load_once(reinterpret_cast<Vector const*>(from + done) + v);
      LMC_UNROLL
      for (std::uint32_t i = 0; i < kPerVector; ++i) {
        float const value = Element::widened(part<typename Element::Stored>(in, i));
        add_part(out, v * kPerVector + i, Code::encode(value * inverse));
      }
    }
    store_once(reinterpret_cast<Vector*>(codes + done), out);
  }
  LMC_ROLLED
  for (; done < count; ++done) codes[done] = Code::encode(Element::widened(from[done]) * inverse);
}

template <class Element, class Code>
LMC_KERNEL_BODY typename Element::Stored decoded(std::uint8_t code, float scale) {
  float value = Code::decode(code) * scale;
  if (!is_finite(value)) {
    // The NaN of a product has other bits on a device than on the host.
    value = is_nan(value) ? float_of(kQuietNanBits) : value < 0 ? -kLargestFloat : kLargestFloat;
  }
  return Element::narrowed(value);
}

template <class Element, class Code>
LMC_KERNEL_BODY void dequantise_group(std::uint8_t const* codes, float scale,
                                      typename Element::Stored* to, std::uint32_t count) {
  constexpr std::uint32_t kPerVector = sizeof(Vector) / sizeof(typename Element::Stored);
  std::uint32_t done = 0;
  LMC_ROLLED
  for (; done + kStepElements <= count; done += kStepElements) {
    Vector const in = load_once(reinterpret_cast<Vector const*>(codes + done));
    LMC_UNROLL
    for (std::uint32_t v = 0; v < kStepElements / kPerVector; ++v) {
      Vector out{};
      LMC_UNROLL
      for (std::uint32_t i = 0; i < kPerVector; ++i) {
        add_part(out, i, decoded<Element, Code>(part<std::uint8_t>(in, v * kPerVector + i), scale));
      }
      store_once(reinterpret_cast<Vector*>(to + done) + v, out);
    }
  }
  LMC_ROLLED
  for (; done < count; ++done) to[done] = decoded<Element, Code>(codes[done], scale);
}

// Calls `work(first element, count, group)` for the groups of one thread.
template <class Work>
LMC_KERNEL_BODY void each_group(Lane lane, GroupShape const& shape, Work work) {
  std::uint64_t const groups = group_count(shape);
  std::uint64_t const step = std::uint64_t{lane.grid} * lane.threads;
  LMC_ROLLED
  for (std::uint64_t g = std::uint64_t{lane.block} * lane.threads + lane.thread; g < groups;
       g += step) {
    std::uint64_t const first = g * shape.group_elements;
    std::uint64_t const left = shape.elements - first;
    work(first,
         left < shape.group_elements ? static_cast<std::uint32_t>(left) : shape.group_elements, g);
  }
}

// Calls `work(Element{}, Code{})` with the types of the shape: the same for all threads of a
// launch.
template <class Work>
LMC_KERNEL_BODY void with_types(GroupShape const& shape, Work work) {
  auto const with_code = [&](auto element) {
    if (shape.code == CodeType::kFp8E4m3) {
      work(element, Fp8Code{});
    } else {
      work(element, Int8Code{});
    }
  };
  switch (shape.element) {
    case ElementType::kBfloat16:
      return with_code(Bfloat16{});
    case ElementType::kFloat16:
      return with_code(Float16{});
    case ElementType::kFloat32:
      return with_code(Float32{});
  }
}

LMC_KERNEL_BODY void quantise_groups(Lane lane, void const* elements, std::uint8_t* codes,
                                     float* scales, GroupShape shape) {
  with_types(shape, [&]<class Element, class Code>(Element, Code) {
    auto const* const from = static_cast<typename Element::Stored const*>(elements);
    each_group(lane, shape, [&](std::uint64_t first, std::uint32_t count, std::uint64_t group) {
      quantise_group<Element, Code>(from + first, codes + first, scales + group, count);
    });
  });
}

LMC_KERNEL_BODY void dequantise_groups(Lane lane, std::uint8_t const* codes, float const* scales,
                                       void* elements, GroupShape shape) {
  with_types(shape, [&]<class Element, class Code>(Element, Code) {
    auto* const to = static_cast<typename Element::Stored*>(elements);
    each_group(lane, shape, [&](std::uint64_t first, std::uint32_t count, std::uint64_t group) {
      dequantise_group<Element, Code>(codes + first, scales[group], to + first, count);
    });
  });
}

}  // namespace lmcache::detail

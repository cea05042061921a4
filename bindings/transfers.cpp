// SPDX-License-Identifier: Apache-2.0
// Stores and loads of an engine.
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include <lmcache/device/copy_batch.hpp>
#include <lmcache/layout/kv_view.hpp>

#include "engine_binding.hpp"
#include "errors.hpp"
#include "without_gil.hpp"

namespace lmcache::bindings {

using namespace py::literals;

namespace {

std::optional<EngineStream> engine_stream(std::optional<std::uintptr_t> handle) {
  if (!handle) return std::nullopt;
  return EngineStream{.handle = *handle};
}

}  // namespace

void bind_transfers(py::class_<EngineHolder, std::shared_ptr<EngineHolder>>& engine) {
  using StoreTuple = std::tuple<std::uint64_t, std::vector<std::uint32_t>>;
  using StreamHandle = std::optional<std::uintptr_t>;
  using LoadTuple = std::tuple<std::uint64_t, std::uint32_t, std::vector<std::uint32_t>>;
  engine.def(
      "register_view",
      [](EngineHolder& self,
         std::vector<std::tuple<std::uintptr_t, std::int64_t, std::uint64_t>> const& planes,
         std::uint32_t num_blocks, std::uint32_t group_block_tokens,
         std::optional<int> cuda_device) {
        KvView view{.planes = {}, .num_blocks = num_blocks, .block_tokens = group_block_tokens};
        if (cuda_device) view.device = {.kind = KvDeviceKind::kCuda, .ordinal = *cuda_device};
        for (auto const& [address, stride, page] : planes) {
          view.planes.push_back({.base = reinterpret_cast<std::byte*>(address),
                                 .block_stride_bytes = stride,
                                 .page_bytes = page});
        }
        auto const target = self.get();
        return unwrap(without_gil([&] { return target->register_view(std::move(view)); }));
      },
      "planes"_a, "num_blocks"_a, "group_block_tokens"_a, "cuda_device"_a = py::none(),
      "planes: (address, block stride in bytes, page bytes). The memory must outlive the view.\n"
      "cuda_device: whose memory it is, None: the host's. The first view of a device starts CUDA.");
  engine.def(
      "unregister_view", [](EngineHolder& self, ViewId view) { self.get()->unregister_view(view); },
      "view"_a);
  engine.def(
      "submit_store",
      [](EngineHolder& self, ViewId view, std::vector<StoreTuple> items, StreamHandle stream) {
        std::vector<StoreItem> list;
        list.reserve(items.size());
        for (auto& [ref, blocks] : items) {
          list.push_back({.ref = ChunkRef::unpack(ref), .blocks = std::move(blocks)});
        }
        auto const target = self.get();
        return unwrap(
            without_gil([&] { return target->submit_store(view, list, engine_stream(stream)); }));
      },
      "view"_a, "items"_a, "stream"_a = py::none(),
      "items: (ref, block ids that hold the chunk). Never blocks on the copy.\n"
      "stream: the copies wait for what is on this CUDA stream by now; 0: the default one.");
  engine.def(
      "submit_load",
      [](EngineHolder& self, ViewId view, std::vector<LoadTuple> items, StreamHandle stream) {
        std::vector<LoadItem> list;
        list.reserve(items.size());
        for (auto& [ref, first, blocks] : items) {
          list.push_back(
              {.ref = ChunkRef::unpack(ref), .first_block = first, .blocks = std::move(blocks)});
        }
        auto const target = self.get();
        return unwrap(
            without_gil([&] { return target->submit_load(view, list, engine_stream(stream)); }));
      },
      "view"_a, "items"_a, "stream"_a = py::none(),
      "items: (ref, first block inside the chunk, destination block ids). stream: as of a store.");
  engine.def("poll", [](EngineHolder& self, JobId job) { return self.get()->poll(job); }, "job"_a);
  engine.def(
      "wait",
      [](EngineHolder& self, JobId job, std::int64_t timeout_ms) {
        auto const target = self.get();
        return without_gil([&] { return target->wait(job, milliseconds(timeout_ms)); });
      },
      "job"_a, "timeout_ms"_a, "True when done, False at the deadline.");
  engine.def(
      "wait_plane",
      [](EngineHolder& self, JobId job, std::uint32_t plane, std::int64_t timeout_ms) {
        auto const target = self.get();
        return without_gil(
            [&] { return target->wait_plane(job, plane, milliseconds(timeout_ms)); });
      },
      "job"_a, "plane"_a, "timeout_ms"_a, "True when planes 0..plane have arrived.");
  engine.def(
      "stream_wait_plane",
      [](EngineHolder& self, JobId job, std::uint32_t plane, std::uintptr_t stream,
         std::int64_t timeout_ms) {
        auto const target = self.get();
        return unwrap(without_gil([&] {
          return target->stream_wait_plane(job, plane, {.handle = stream},
                                           milliseconds(timeout_ms));
        }));
      },
      "job"_a, "plane"_a, "stream"_a, "timeout_ms"_a,
      "Makes a CUDA stream wait, on the device, for planes 0..plane. False: it does not, since\n"
      "the copies were not on their way at the deadline, or never will be.");
  engine.def(
      "cancel_job",
      [](EngineHolder& self, JobId job) {
        auto const target = self.get();
        without_gil([&] { target->cancel_job(job); });
      },
      "job"_a, "Drops what has not begun; afterwards no thread touches the view for this job.");
  engine.def(
      "finish", [](EngineHolder& self, JobId job) { return self.get()->finish_job(job); }, "job"_a,
      "Forgets a job that is done; returns the indices of the items that failed.");
}

}  // namespace lmcache::bindings

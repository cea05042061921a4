// SPDX-License-Identifier: Apache-2.0
#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <lmcache/engine/disk_volume.hpp>
#include <lmcache/io/io_engine.hpp>
#include <lmcache/io/raw_transfer.hpp>
#include <lmcache/tier/disk/disk_tier.hpp>

#include "errors.hpp"
#include "keys.hpp"
#include "log_queue.hpp"
#include "module.hpp"
#include "status_dict.hpp"
#include "without_gil.hpp"

namespace lmcache::bindings {

namespace py = pybind11;
using namespace py::literals;

namespace {

std::byte* aligned_memory(py::buffer_info const& info, std::uint64_t size_bytes) {
  if (static_cast<std::uint64_t>(info.size * info.itemsize) < size_bytes) {
    throw py::value_error("the memory holds " + std::to_string(info.size * info.itemsize) +
                          " bytes, " + std::to_string(size_bytes) + " are needed");
  }
  if (reinterpret_cast<std::uintptr_t>(info.ptr) % 4096 != 0) {
    throw py::value_error("the memory does not begin on a page of 4096 bytes (use mmap)");
  }
  return static_cast<std::byte*>(info.ptr);
}

StatusDict status_of(DiskVolume& volume) {
  auto const status = without_gil([&] { return volume.tier().status(); });
  StatusDict out("folders"_a = status.folders, "io_engine"_a = status.engine,
                 "registered_buffers"_a = status.registered_buffers, "direct"_a = status.direct,
                 "limit_bytes"_a = status.use.limit_bytes, "file_bytes"_a = status.use.file_bytes,
                 "used_bytes"_a = status.use.used_bytes, "chunks"_a = status.use.chunks,
                 "slabs"_a = status.use.slabs, "record_capacity"_a = status.use.record_capacity,
                 "damaged_records"_a = status.use.damaged_records,
                 "read_bytes_per_s"_a = status.use.read_bytes_per_s,
                 "write_bytes_per_s"_a = status.use.write_bytes_per_s,
                 "processes"_a = status.use.processes);
  py::list models;
  for (auto const& model : without_gil([&] { return volume.models(); })) {
    models.append(
        py::dict("model"_a = model.model, "description"_a = model.description,
                 "chunks"_a = model.chunks, "bytes"_a = model.size_bytes,
                 "prefill_us_per_token"_a = static_cast<double>(model.prefill_ps_per_token) / 1e6));
  }
  out["models"] = models;
  return out;
}

}  // namespace

void bind_disk(py::module_& module) {
  py::class_<DiskVolume>(module, "DiskVolume", "A disk cache without an engine.")
      .def_static(
          "open",
          [](std::vector<std::string> folders, py::typing::Callable<void(int, std::string)> log,
             std::uint64_t limit_bytes, std::string io, std::string durability,
             std::string memory_folder, std::uint64_t depth_bytes, bool existing_only) {
            auto const lines = std::make_shared<LogQueue>(std::move(log));
            auto opened = without_gil([&] {
              return DiskVolume::open({.folders = std::move(folders),
                                       .limit_bytes = limit_bytes,
                                       .io = std::move(io),
                                       .durability = std::move(durability),
                                       .memory_folder = std::move(memory_folder),
                                       .depth_bytes = depth_bytes,
                                       .existing_only = existing_only},
                                      lines->hook());
            });
            lines->drain();
            return unwrap(std::move(opened));
          },
          "folders"_a, "log"_a, py::kw_only(), "limit_bytes"_a = 0, "io"_a = "auto",
          "durability"_a = "none", "memory_folder"_a = "/dev/shm", "depth_bytes"_a = 0,
          "existing_only"_a = true)
      .def(
          "write",
          [](DiskVolume& self, py::bytes const& keys, py::buffer const& memory,
             std::uint64_t slot_bytes, std::uint64_t payload_bytes) {
            auto const list = keys_in(keys);
            auto const info = memory.request(true);
            auto* const data = aligned_memory(info, list.size() * slot_bytes);
            return without_gil([&] {
              return self.write(
                  list, {.data = data, .slot_bytes = slot_bytes, .payload_bytes = payload_bytes});
            });
          },
          "keys"_a, "memory"_a, "slot_bytes"_a, "payload_bytes"_a,
          "A chunk per key (32 bytes each) out of slots, whose first 256 bytes become its header.")
      .def(
          "read",
          [](DiskVolume& self, py::bytes const& keys, py::buffer const& memory,
             std::uint64_t slot_bytes) {
            auto const list = keys_in(keys);
            auto const info = memory.request(true);
            auto* const data = aligned_memory(info, list.size() * slot_bytes);
            return without_gil([&] {
              return self.read(list, {.data = data, .slot_bytes = slot_bytes, .payload_bytes = 0});
            });
          },
          "keys"_a, "memory"_a, "slot_bytes"_a, "Returns how many arrived and are right.")
      .def(
          "find",
          [](DiskVolume& self, py::bytes const& keys) {
            auto const list = keys_in(keys);
            return without_gil([&] { return self.find(list); });
          },
          "keys"_a, "How many of the chunks are there.")
      .def(
          "scrub",
          [](DiskVolume& self,
             std::function<bool(std::uint64_t, std::uint64_t, std::uint64_t)> const& progress) {
            auto const report = without_gil([&] {
              return self.scrub([&](ScrubReport const& so_far, std::uint64_t total) {
                py::gil_scoped_acquire const acquire;
                return progress(so_far.chunks, total, so_far.size_bytes);
              });
            });
            py::list damage;
            for (auto const& it : report.damage) {
              damage.append(py::dict("folder"_a = it.folder, "slab"_a = it.slab,
                                     "offset"_a = it.offset,
                                     "problem"_a = it.corrupt ? "corrupt" : "unreadable"));
            }
            return StatusDict("chunks"_a = report.chunks, "bytes"_a = report.size_bytes,
                              "corrupt"_a = report.corrupt, "unreadable"_a = report.unreadable,
                              "gone"_a = report.gone, "damaged_records"_a = report.damaged_records,
                              "damage"_a = damage, "complete"_a = report.complete);
          },
          "progress"_a,
          "Reads and checks all; progress(chunks so far, of how many, bytes): whether to go on.")
      .def("clear", [](DiskVolume& self) { return without_gil([&] { return self.clear(); }); })
      .def("status", &status_of)
      .def("memory_alignment", [](DiskVolume const&) { return 4096; });

  module.def(
      "uring_refusal", [] { return without_gil([] { return uring_refusal(); }); },
      "Why io_uring cannot be used here; empty if it can.");
  module.def(
      "raw_transfer",
      [](std::string path, bool write, std::uint64_t chunk_bytes,
         std::vector<std::uint32_t> const& order, py::buffer const& memory, std::string const& io,
         std::uint64_t depth_bytes) {
        auto const kind = unwrap(parse_io(io));
        auto const info = memory.request(true);
        RawTransfer transfer{.path = std::move(path),
                             .op = write ? IoOp::kWrite : IoOp::kRead,
                             .chunk_bytes = chunk_bytes,
                             .order = order,
                             .data = aligned_memory(info, order.size() * chunk_bytes)};
        transfer.io.kind = kind;
        if (depth_bytes != 0) transfer.io.depth_bytes = depth_bytes;
        return unwrap(without_gil([&] { return raw_transfer(transfer); }));
      },
      "path"_a, "write"_a, "chunk_bytes"_a, "order"_a, "memory"_a, "io"_a = "auto",
      "depth_bytes"_a = 0,
      "Seconds that moving chunks of a file takes with the engine of I/O alone.");
}

}  // namespace lmcache::bindings

// SPDX-License-Identifier: Apache-2.0
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <lmcache/engine/segment_status.hpp>
#include <lmcache/memory/segment_file.hpp>

#include "errors.hpp"
#include "module.hpp"
#include "status_dict.hpp"
#include "without_gil.hpp"

namespace lmcache::bindings {

namespace py = pybind11;
using namespace py::literals;

Counts to_dict(CountersSnapshot const& counters) {
  Counts out;
  counters.for_each(
      [&](std::string_view name, std::uint64_t value) { out[py::str{std::string{name}}] = value; });
  return out;
}

namespace {

// Records hold the first bytes of a text, which may end inside a character.
py::str text(std::string const& bytes) {
  return py::reinterpret_steal<py::str>(
      PyUnicode_DecodeUTF8(bytes.data(), static_cast<py::ssize_t>(bytes.size()), "replace"));
}

py::dict to_dict(HistogramSnapshot const& histogram) {
  return py::dict("count"_a = histogram.count(), "mean"_a = histogram.mean(),
                  "p50"_a = histogram.quantile(0.5), "p99"_a = histogram.quantile(0.99));
}

py::dict to_dict(ProcessStatus const& process) {
  return py::dict(
      "pid"_a = process.pid, "alive"_a = process.alive, "role"_a = text(process.role),
      "instance_id"_a = text(process.instance_id), "attached_unix_s"_a = process.attached_unix_s,
      "counters"_a = bindings::to_dict(process.counters), "remote_state"_a = process.remote_state,
      "remote_failures"_a = process.remote_failures,
      "remote_lookup_ns"_a = process.remote_lookup_ns,
      "remote_last_error"_a = process.remote_last_error,
      "remote_read_bytes_per_s"_a = process.remote_read_bytes_per_s,
      "remote_write_bytes_per_s"_a = process.remote_write_bytes_per_s,
      "device_capacity_bytes"_a = process.device_capacity_bytes,
      "device_used_bytes"_a = process.device_used_bytes, "device_chunks"_a = process.device_chunks);
}

py::dict to_dict(NamespaceStatus const& space) {
  auto const& root = space.root.bytes;
  return py::dict("id"_a = space.id, "incarnation"_a = space.incarnation,
                  "root"_a = py::bytes{reinterpret_cast<char const*>(root.data()), root.size()},
                  "lanes"_a = space.lanes, "chunk_tokens"_a = space.chunk_tokens,
                  "model"_a = text(space.model), "description"_a = text(space.description),
                  "entries"_a = space.entries, "bytes"_a = space.size_bytes,
                  "lookups"_a = space.lookups, "lookup_tokens"_a = space.lookup_tokens,
                  "hit_tokens"_a = space.hit_tokens);
}

py::object to_dict(std::optional<DiskSummary> const& disk) {
  if (!disk) return py::none();
  py::list folders;
  for (auto const& folder : disk->folders) folders.append(text(folder));
  return py::dict("folders"_a = folders, "io_engine"_a = disk->io_engine,
                  "unreadable"_a = text(disk->unreadable), "limit_bytes"_a = disk->limit_bytes,
                  "file_bytes"_a = disk->file_bytes, "used_bytes"_a = disk->used_bytes,
                  "chunks"_a = disk->chunks, "damaged_records"_a = disk->damaged_records,
                  "read_bytes_per_s"_a = disk->read_bytes_per_s,
                  "write_bytes_per_s"_a = disk->write_bytes_per_s, "processes"_a = disk->processes);
}

}  // namespace

StatusDict to_dict(SegmentStatus const& status) {
  py::list processes;
  for (auto const& process : status.processes) processes.append(to_dict(process));
  py::list spaces;
  for (auto const& space : status.namespaces) spaces.append(to_dict(space));
  StatusDict out("path"_a = status.path, "created_unix_s"_a = status.created_unix_s,
                 "capacity_bytes"_a = status.capacity_bytes,
                 "reserved_bytes"_a = status.reserved_bytes, "used_bytes"_a = status.used_bytes,
                 "entries"_a = status.entries, "ready"_a = status.ready,
                 "writing"_a = status.writing, "free_slots"_a = status.free_slots,
                 "bound_slots"_a = status.bound_slots, "leased"_a = status.leased,
                 "max_entries"_a = status.max_entries, "extent_bytes"_a = status.extent_bytes,
                 "repaired_locks"_a = status.repaired_locks);
  out["remove_when_unused"] = status.remove_when_unused;
  out["total"] = to_dict(status.total);
  out["lookup_ns"] = to_dict(status.lookup_ns);
  out["load_ns"] = to_dict(status.load_ns);
  out["store_ns"] = to_dict(status.store_ns);
  out["processes"] = processes;
  out["namespaces"] = spaces;
  out["disk"] = to_dict(status.disk);
  return out;
}

void bind_segments(py::module_& module) {
  module.def(
      "segment_path",
      [](std::string const& name, std::string const& directory) {
        return unwrap(segment_path(directory, name));
      },
      "name"_a, "directory"_a = std::string{kDefaultSegmentDirectory},
      "The file of the segment of that name of this user.");
  module.def(
      "inspect_segment",
      [](std::string const& path) {
        return to_dict(unwrap(without_gil([&] { return inspect_segment(path); })));
      },
      "path"_a, "The status of a segment, without joining it.");
  module.def(
      "list_segments",
      [](std::string const& directory) {
        py::typing::List<StatusDict> out;
        for (auto const& info : unwrap(list_segments(directory))) {
          out.append(StatusDict("path"_a = info.path, "name"_a = info.name,
                                "allocated_bytes"_a = info.allocated_bytes,
                                "unreadable"_a = info.unreadable, "processes"_a = info.processes));
        }
        return out;
      },
      "directory"_a = std::string{kDefaultSegmentDirectory}, "The segments of this user.");
  module.def(
      "remove_segment",
      [](std::string const& path, bool force) {
        return unwrap(remove_segment(path, force ? RemoveMode::kForce : RemoveMode::kReadableOnly));
      },
      "path"_a, "force"_a = false,
      "Removes a segment that no living process has mapped; False: one has.");
  module.def(
      "list_disk_directories",
      [](std::string const& memory_folder) {
        py::typing::List<StatusDict> out;
        for (auto const& info : unwrap(list_disk_directories(memory_folder))) {
          py::list folders;
          for (auto const& folder : info.folders) folders.append(text(folder));
          out.append(StatusDict("path"_a = info.path, "allocated_bytes"_a = info.allocated_bytes,
                                "unreadable"_a = info.unreadable, "processes"_a = info.processes,
                                "folders"_a = folders));
        }
        return out;
      },
      "memory_folder"_a = std::string{kDefaultSegmentDirectory},
      "What processes of this user share about disk caches.");
  module.def(
      "remove_disk_directory",
      [](std::string const& path, bool force) {
        auto const mode = force ? RemoveMode::kForce : RemoveMode::kReadableOnly;
        return unwrap(without_gil([&] { return remove_disk_directory(path, mode); }));
      },
      "path"_a, "force"_a = false,
      "Removes one that no living process has mapped; False: one has. The disk cache stays.");
  module.def(
      "clear_segment",
      [](std::string const& path, std::optional<std::string> const& model) {
        return unwrap(without_gil([&] { return clear_segment(path, model); }));
      },
      "path"_a, "model"_a = py::none(), "Evicts every chunk that nobody leases; returns how many.");
}

}  // namespace lmcache::bindings

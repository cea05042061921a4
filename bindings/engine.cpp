// SPDX-License-Identifier: Apache-2.0
#include "engine_binding.hpp"

#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <chrono>
#include <limits>
#include <string>

#include <lmcache/layout/kv_view.hpp>

#include "errors.hpp"
#include "module.hpp"
#include "namespace_request.hpp"
#include "status_dict.hpp"

namespace lmcache::bindings {

using namespace py::literals;

namespace {

using Refs = std::vector<std::uint64_t>;

Refs packed(std::span<ChunkRef const> refs) {
  Refs out;
  out.reserve(refs.size());
  for (auto const ref : refs) out.push_back(ref.packed());
  return out;
}

std::vector<ChunkRef> unpacked(Refs const& refs) {
  std::vector<ChunkRef> out;
  out.reserve(refs.size());
  for (auto const ref : refs) out.push_back(ChunkRef::unpack(ref));
  return out;
}

// Called from any thread of ours, none of which holds the GIL; drops lines once the interpreter is going.
LogHook python_log(py::function hook) {
  auto shared = std::shared_ptr<py::function>{new py::function{std::move(hook)}, [](py::function* held) {
                                                py::gil_scoped_acquire const acquire;
                                                delete held;
                                              }};
  return [shared](LogLevel level, std::string_view message) {
    if (Py_IsInitialized() == 0) return;
    py::gil_scoped_acquire const acquire;
    try {
      (*shared)(static_cast<int>(level), std::string{message});
    } catch (py::error_already_set& error) {
      error.discard_as_unraisable("lmcache log hook");
    }
  };
}

std::chrono::milliseconds milliseconds(std::int64_t timeout_ms) {
  return std::chrono::milliseconds{std::clamp<std::int64_t>(timeout_ms, 0, 86'400'000)};
}

}  // namespace

Engine& EngineHolder::get() const {
  if (!engine) {
    py::object const closed = py::module_::import("lmcache.errors").attr("ClosedError");
    PyErr_SetString(closed.ptr(), "the engine is closed");
    throw py::error_already_set();
  }
  return *engine;
}

void EngineHolder::close() {
  auto going = std::move(engine);
  py::gil_scoped_release const release;
  going.reset();
}

void bind_engine(py::module_& module) {
  py::class_<EngineOptions>(module, "EngineOptions", "See lmcache/engine/engine_options.hpp.")
      .def(py::init([](std::string segment, std::uint64_t capacity_bytes, bool keep,
                       std::uint64_t chunk_bytes_hint, std::string role, std::string instance_id,
                       std::uint32_t copy_threads, std::uint32_t ttl_seconds, std::string eviction,
                       std::string directory, std::uint32_t max_entries) {
             return EngineOptions{.segment = std::move(segment),
                                  .directory = std::move(directory),
                                  .capacity_bytes = capacity_bytes,
                                  .keep = keep,
                                  .chunk_bytes_hint = chunk_bytes_hint,
                                  .max_entries = max_entries,
                                  .copy_threads = copy_threads,
                                  .ttl_seconds = ttl_seconds,
                                  .eviction = std::move(eviction),
                                  .role = std::move(role),
                                  .instance_id = std::move(instance_id)};
           }),
           py::kw_only(), "segment"_a = "private", "capacity_bytes"_a, "keep"_a = false,
           "chunk_bytes_hint"_a = 0, "role"_a = "engine", "instance_id"_a = "", "copy_threads"_a = 0,
           "ttl_seconds"_a = 0, "eviction"_a = "lru", "directory"_a = "/dev/shm", "max_entries"_a = 0);

  py::class_<NamespaceHandle>(module, "Namespace", "A namespace that an engine has open.")
      .def_readonly("id", &NamespaceHandle::id)
      .def_readonly("lanes", &NamespaceHandle::lanes)
      .def_readonly("chunk_tokens", &NamespaceHandle::chunk_tokens)
      .def_property_readonly("root", [](NamespaceHandle const& space) {
        return py::bytes{reinterpret_cast<char const*>(space.root.bytes.data()), space.root.bytes.size()};
      });

  py::class_<HitHolder>(module, "Hit", "A lease on the chunks of a prefix; ends by release() or with the object.")
      .def_property_readonly("prefix_tokens", [](HitHolder const& hit) { return hit.hit.prefix_tokens(); })
      .def_property_readonly("chunk_count", [](HitHolder const& hit) { return hit.hit.chunk_count(); })
      .def(
          "refs", [](HitHolder const& hit, std::uint32_t lane) { return packed(hit.hit.refs(lane)); }, "lane"_a)
      .def("release", &HitHolder::release)
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](HitHolder& hit, py::args const&) { hit.release(); });

  py::class_<EngineHolder, std::shared_ptr<EngineHolder>> engine(
      module, "Engine", "One process's view of a node's cache; see lmcache/engine/engine.hpp.");
  engine.def_static(
      "open",
      [](EngineOptions options, py::function log) {
        auto hook = python_log(std::move(log));
        py::gil_scoped_release const release;
        auto opened = Engine::open(std::move(options), std::move(hook));
        py::gil_scoped_acquire const acquire;
        auto holder = std::make_shared<EngineHolder>();
        holder->engine = unwrap(std::move(opened));
        return holder;
      },
      "options"_a, "log"_a);
  engine.def("close", &EngineHolder::close);
  engine.def_property_readonly("closed", [](EngineHolder const& self) { return self.engine == nullptr; });
  engine.def(
      "open_namespace",
      [](EngineHolder& self, NamespaceRequest const& request) {
        return unwrap(self.get().open_namespace(request.spec, request.geometry));
      },
      "spec"_a);
  engine.def(
      "declare_lane",
      [](EngineHolder& self, NamespaceHandle const& space, std::uint32_t lane, std::uint64_t block_bytes) {
        unwrap(self.get().declare_lane(space, lane, block_bytes));
      },
      "namespace"_a, "lane"_a, "block_bytes"_a);
  engine.def(
      "lane_block_bytes",
      [](EngineHolder& self, NamespaceHandle const& space) { return self.get().lane_block_bytes(space); },
      "namespace"_a);
  engine.def(
      "new_prompt",
      [](EngineHolder& self, NamespaceHandle const& space) { return unwrap(self.get().new_chain(space)); },
      "namespace"_a);
  engine.def(
      "lookup",
      [](std::shared_ptr<EngineHolder> const& self, NamespaceHandle const& space, KeyChain const& prompt,
         std::int64_t limit_tokens) {
        auto& target = self->get();
        auto const limit = limit_tokens < 0 ? std::numeric_limits<std::uint32_t>::max()
                                            : static_cast<std::uint32_t>(limit_tokens);
        py::gil_scoped_release const release;
        return HitHolder{self, target.lookup(space, prompt, limit)};
      },
      "namespace"_a, "prompt"_a, "limit_tokens"_a = -1);
  engine.def(
      "reserve",
      [](EngineHolder& self, NamespaceHandle const& space, KeyChain const& prompt,
         std::uint32_t first_chunk, std::uint32_t end_token) {
        auto& target = self.get();
        py::gil_scoped_release const release;
        auto const lanes =
            target.reserve(space, prompt, {.first_chunk = first_chunk, .end_token = end_token});
        std::vector<Refs> out;
        for (auto const& lane : lanes) out.push_back(packed(lane));
        return out;
      },
      "namespace"_a, "prompt"_a, "first_chunk"_a, "end_token"_a);
  engine.def(
      "cancel", [](EngineHolder& self, Refs const& refs) { self.get().cancel(unpacked(refs)); }, "refs"_a);
  engine.def(
      "is_ready",
      [](EngineHolder& self, std::uint64_t ref) { return self.get().is_ready(ChunkRef::unpack(ref)); },
      "ref"_a);
  engine.def(
      "clear",
      [](EngineHolder& self, std::optional<NamespaceHandle> const& space) { return self.get().clear(space); },
      "namespace"_a = py::none(), py::call_guard<py::gil_scoped_release>());
  engine.def("stats", [](EngineHolder& self) { return to_dict(self.get().counters()); });
  engine.def("status", [](EngineHolder& self) { return to_dict(unwrap(self.get().status())); });
  bind_transfers(engine);
}

void bind_transfers(py::class_<EngineHolder, std::shared_ptr<EngineHolder>>& engine) {
  engine.def(
      "register_view",
      [](EngineHolder& self,
         std::vector<std::tuple<std::uintptr_t, std::int64_t, std::uint64_t>> const& planes,
         std::uint32_t num_blocks, std::uint32_t group_block_tokens) {
        KvView view{.planes = {}, .num_blocks = num_blocks, .block_tokens = group_block_tokens};
        for (auto const& [address, stride, page] : planes) {
          view.planes.push_back({.base = reinterpret_cast<std::byte*>(address),
                                 .block_stride_bytes = stride,
                                 .page_bytes = page});
        }
        return unwrap(self.get().register_view(std::move(view)));
      },
      "planes"_a, "num_blocks"_a, "group_block_tokens"_a,
      "planes: (address, block stride in bytes, page bytes). The memory must outlive the view.");
  engine.def(
      "unregister_view", [](EngineHolder& self, ViewId view) { self.get().unregister_view(view); },
      "view"_a);
  engine.def(
      "submit_store",
      [](EngineHolder& self, ViewId view,
         std::vector<std::tuple<std::uint64_t, std::vector<std::uint32_t>>> items) {
        std::vector<StoreItem> list;
        for (auto& [ref, blocks] : items) {
          list.push_back({.ref = ChunkRef::unpack(ref), .blocks = std::move(blocks)});
        }
        auto& target = self.get();
        py::gil_scoped_release const release;
        auto job = target.submit_store(view, list);
        py::gil_scoped_acquire const acquire;
        return unwrap(std::move(job));
      },
      "view"_a, "items"_a, "items: (ref, block ids that hold the chunk). Never blocks on the copy.");
  engine.def(
      "submit_load",
      [](EngineHolder& self, ViewId view,
         std::vector<std::tuple<std::uint64_t, std::uint32_t, std::vector<std::uint32_t>>> items) {
        std::vector<LoadItem> list;
        for (auto& [ref, first, blocks] : items) {
          list.push_back({.ref = ChunkRef::unpack(ref), .first_block = first, .blocks = std::move(blocks)});
        }
        auto& target = self.get();
        py::gil_scoped_release const release;
        auto job = target.submit_load(view, list);
        py::gil_scoped_acquire const acquire;
        return unwrap(std::move(job));
      },
      "view"_a, "items"_a, "items: (ref, first block inside the chunk, destination block ids).");
  engine.def(
      "poll", [](EngineHolder& self, JobId job) { return self.get().poll(job); }, "job"_a);
  engine.def(
      "wait",
      [](EngineHolder& self, JobId job, std::int64_t timeout_ms) {
        auto& target = self.get();
        py::gil_scoped_release const release;
        return target.wait(job, milliseconds(timeout_ms));
      },
      "job"_a, "timeout_ms"_a, "True when done, False at the deadline.");
  engine.def(
      "wait_plane",
      [](EngineHolder& self, JobId job, std::uint32_t plane, std::int64_t timeout_ms) {
        auto& target = self.get();
        py::gil_scoped_release const release;
        return target.wait_plane(job, plane, milliseconds(timeout_ms));
      },
      "job"_a, "plane"_a, "timeout_ms"_a, "True when planes 0..plane have arrived.");
  engine.def(
      "cancel_job",
      [](EngineHolder& self, JobId job) {
        auto& target = self.get();
        py::gil_scoped_release const release;
        target.cancel_job(job);
      },
      "job"_a, "Drops what has not begun; afterwards no thread touches the view for this job.");
  engine.def(
      "finish", [](EngineHolder& self, JobId job) { return self.get().finish_job(job); }, "job"_a,
      "Forgets a job that is done; returns the indices of the items that failed.");
}

}  // namespace lmcache::bindings

// SPDX-License-Identifier: Apache-2.0
#include "engine_binding.hpp"

#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <chrono>
#include <future>
#include <limits>
#include <memory>
#include <string>

#include <lmcache/base/worker_thread.hpp>

#include "errors.hpp"
#include "module.hpp"
#include "namespace_request.hpp"
#include "remote_calls.hpp"
#include "status_dict.hpp"
#include "without_gil.hpp"

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

// It waits for calls of a client in Python, which may never return. Then it goes when they do, or
// with the process, and until then its slots and its memory are nobody else's. False: not gone yet.
bool let_go(std::shared_ptr<Engine> engine) {
  constexpr std::chrono::seconds kLongest{10};
  auto const gone = std::make_shared<std::promise<void>>();
  auto heard = gone->get_future();
  auto going = std::make_shared<std::shared_ptr<Engine>>(std::move(engine));
  auto thread = start_worker_thread({.name = "lmc-close"}, [going, gone] {
    going->reset();
    gone->set_value();
  });
  if (!thread) {
    going->reset();
    return true;
  }
  thread.value().detach();
  return heard.wait_for(kLongest) == std::future_status::ready;
}

}  // namespace

std::shared_ptr<Engine> EngineHolder::get() const {
  if (!closed()) return engine_;
  std::string message = "the engine is closed";
  if (engine_) {
    message = "the engine was opened by process " + std::to_string(process_) +
              ", which forked this one: open an engine in each process";
  }
  py::object const error = py::module_::import("lmcache.errors").attr("ClosedError");
  PyErr_SetString(error.ptr(), message.c_str());
  throw py::error_already_set();
}

void EngineHolder::close() {
  if (!engine_) return;
  if (getpid() != process_) {
    // Left as it is: its destructor would wait for threads that exist in the parent only.
    static_cast<void>(new std::shared_ptr<Engine>{std::move(engine_)});
    return;
  }
  auto going = std::move(engine_);
  bool gone = true;
  {
    // Its threads may be waiting for the GIL, and it waits for them.
    py::gil_scoped_release const release;
    if (client_) {
      gone = let_go(std::move(going));
    } else {
      going.reset();
    }
  }
  if (!gone) {
    log_->hook()(LogLevel::kWarning,
                 "a call of the remote store's client does not return: the cache's memory stays "
                 "until it does");
  }
  log_->drain();
}

void bind_engine(py::module_& module) {
  py::class_<EngineOptions>(module, "EngineOptions", "See lmcache/engine/engine_options.hpp.")
      .def(py::init([](std::string segment, std::uint64_t capacity_bytes, bool keep,
                       std::uint64_t chunk_bytes_hint, std::string role, std::string instance_id,
                       std::uint32_t copy_threads, std::uint32_t ttl_seconds, std::string eviction,
                       std::string directory, std::uint32_t max_entries,
                       std::vector<std::string> disk_folders, std::uint64_t disk_bytes,
                       std::string disk_io, std::string disk_durability,
                       std::uint64_t write_behind_bytes, std::uint64_t disk_bytes_per_second,
                       std::string disk_memory_folder, bool always_fetch, std::string remote_url,
                       std::string remote_user, std::string remote_password,
                       std::string remote_serde, std::uint32_t remote_connections,
                       std::uint32_t remote_lookup_timeout_ms, std::uint32_t remote_timeout_ms,
                       std::uint32_t remote_lookup_kept_ms,
                       std::optional<std::shared_ptr<TransportQueue>> remote_calls,
                       std::uint64_t device_pool_bytes) {
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
                                  .instance_id = std::move(instance_id),
                                  .disk_folders = std::move(disk_folders),
                                  .disk_bytes = disk_bytes,
                                  .disk_io = std::move(disk_io),
                                  .disk_durability = std::move(disk_durability),
                                  .write_behind_bytes = write_behind_bytes,
                                  .disk_bytes_per_second = disk_bytes_per_second,
                                  .remote_url = std::move(remote_url),
                                  .remote_user = std::move(remote_user),
                                  .remote_password = std::move(remote_password),
                                  .remote_serde = std::move(remote_serde),
                                  .remote_connections = remote_connections,
                                  .remote_lookup_timeout_ms = remote_lookup_timeout_ms,
                                  .remote_timeout_ms = remote_timeout_ms,
                                  .remote_lookup_kept_ms = remote_lookup_kept_ms,
                                  .remote_calls = remote_calls.value_or(nullptr),
                                  .always_fetch = always_fetch,
                                  .disk_memory_folder = std::move(disk_memory_folder),
                                  .device_pool_bytes = device_pool_bytes};
           }),
           py::kw_only(), "segment"_a = "private", "capacity_bytes"_a, "keep"_a = false,
           "chunk_bytes_hint"_a = 0, "role"_a = "engine", "instance_id"_a = "",
           "copy_threads"_a = 0, "ttl_seconds"_a = 0, "eviction"_a = "lru",
           "directory"_a = "/dev/shm", "max_entries"_a = 0,
           "disk_folders"_a = std::vector<std::string>{}, "disk_bytes"_a = 0, "disk_io"_a = "auto",
           "disk_durability"_a = "none", "write_behind_bytes"_a = std::uint64_t{256} << 20,
           "disk_bytes_per_second"_a = 0, "disk_memory_folder"_a = "/dev/shm",
           "always_fetch"_a = false, "remote_url"_a = "", "remote_user"_a = "",
           "remote_password"_a = "", "remote_serde"_a = "msgpack", "remote_connections"_a = 4,
           "remote_lookup_timeout_ms"_a = 200, "remote_timeout_ms"_a = 10'000,
           "remote_lookup_kept_ms"_a = 5'000, "remote_calls"_a = py::none(),
           "device_pool_bytes"_a = 0);

  py::class_<NamespaceHandle>(module, "Namespace", "A namespace that an engine has open.")
      .def_readonly("id", &NamespaceHandle::id)
      .def_readonly("lanes", &NamespaceHandle::lanes)
      .def_readonly("chunk_tokens", &NamespaceHandle::chunk_tokens)
      .def_property_readonly("root", [](NamespaceHandle const& space) {
        return py::bytes{reinterpret_cast<char const*>(space.root.bytes.data()),
                         space.root.bytes.size()};
      });

  py::class_<HitHolder>(module, "Hit",
                        "A lease on the chunks of a prefix; ends by release() or with the object.")
      .def_property_readonly("prefix_tokens",
                             [](HitHolder const& hit) { return hit.hit.prefix_tokens(); })
      .def_property_readonly("chunk_count",
                             [](HitHolder const& hit) { return hit.hit.chunk_count(); })
      .def(
          "refs",
          [](HitHolder const& hit, std::uint32_t lane) { return packed(hit.hit.refs(lane)); },
          "lane"_a)
      .def("release", &HitHolder::release)
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](HitHolder& hit, py::args const&) { hit.release(); });

  py::class_<FetchHolder>(module, "Fetch",
                          "A prefix on its way from disk into memory; what arrived stays leased "
                          "until release().")
      .def_property_readonly("prefix_tokens",
                             [](FetchHolder const& fetch) { return fetch.fetch.prefix_tokens(); })
      .def("done", [](FetchHolder& fetch) { return fetch.owner->closed() || fetch.fetch.done(); })
      .def(
          "wait",
          [](FetchHolder& fetch, std::int64_t timeout_ms) {
            auto const target = fetch.owner->get();
            return without_gil([&] { return fetch.fetch.wait(milliseconds(timeout_ms)); });
          },
          "timeout_ms"_a, "True when done, False at the deadline.")
      .def("release", &FetchHolder::release);

  py::class_<EngineHolder, std::shared_ptr<EngineHolder>> engine(
      module, "Engine", "One process's view of a node's cache; see lmcache/engine/engine.hpp.");
  engine.def_static(
      "open",
      [](EngineOptions options, py::typing::Callable<void(int, std::string)> log) {
        auto const lines = std::make_shared<LogQueue>(std::move(log));
        bool const client = options.remote_calls != nullptr;
        auto opened = without_gil([&] { return Engine::open(std::move(options), lines->hook()); });
        lines->drain();
        return std::make_shared<EngineHolder>(shared(unwrap(std::move(opened))), lines, client);
      },
      "options"_a, "log"_a, "log(level, text): the numbers of the module logging.");
  engine.def("close", &EngineHolder::close);
  engine.def_property_readonly("closed", &EngineHolder::closed);
  engine.def(
      "open_namespace",
      [](EngineHolder& self, NamespaceRequest const& request) {
        auto const target = self.get();
        return unwrap(
            without_gil([&] { return target->open_namespace(request.spec, request.geometry); }));
      },
      "spec"_a);
  engine.def(
      "declare_lane",
      [](EngineHolder& self, NamespaceHandle const& space, std::uint32_t lane,
         std::uint64_t block_bytes) { unwrap(self.get()->declare_lane(space, lane, block_bytes)); },
      "namespace"_a, "lane"_a, "block_bytes"_a);
  engine.def(
      "lane_block_bytes",
      [](EngineHolder& self, NamespaceHandle const& space) {
        return self.get()->lane_block_bytes(space);
      },
      "namespace"_a);
  engine.def(
      "new_prompt",
      [](EngineHolder& self, NamespaceHandle const& space) {
        return unwrap(self.get()->new_chain(space));
      },
      "namespace"_a);
  engine.def(
      "lookup",
      [](std::shared_ptr<EngineHolder> const& self, NamespaceHandle const& space,
         KeyChain const& prompt, std::int64_t limit_tokens) {
        auto const target = self->get();
        auto const limit = limit_tokens < 0 ? std::numeric_limits<std::uint32_t>::max()
                                            : static_cast<std::uint32_t>(limit_tokens);
        return HitHolder{self, without_gil([&] { return target->lookup(space, prompt, limit); })};
      },
      "namespace"_a, "prompt"_a, "limit_tokens"_a = -1);
  engine.def(
      "fetch",
      [](std::shared_ptr<EngineHolder> const& self, NamespaceHandle const& space,
         KeyChain const& prompt, std::uint32_t hit_tokens, std::int64_t limit_tokens,
         std::uint32_t computed_tokens) -> std::optional<FetchHolder> {
        auto const target = self->get();
        auto const limit = limit_tokens < 0 ? std::numeric_limits<std::uint32_t>::max()
                                            : static_cast<std::uint32_t>(limit_tokens);
        auto started = without_gil([&] {
          return target->fetch(space, prompt,
                               {.hit_tokens = hit_tokens,
                                .computed_tokens = computed_tokens,
                                .limit_tokens = limit});
        });
        if (!started) return std::nullopt;
        return FetchHolder{self, std::move(*started)};
      },
      "namespace"_a, "prompt"_a, "hit_tokens"_a, "limit_tokens"_a = -1, "computed_tokens"_a = 0,
      "Brings what follows a hit from disk; None: nothing is there, or computing it is faster.");
  engine.def(
      "reach",
      [](EngineHolder& self, NamespaceHandle const& space, KeyChain const& prompt,
         std::uint32_t hit_tokens, std::int64_t limit_tokens) {
        auto const target = self.get();
        auto const limit = limit_tokens < 0 ? std::numeric_limits<std::uint32_t>::max()
                                            : static_cast<std::uint32_t>(limit_tokens);
        return without_gil([&] { return target->reach(space, prompt, hit_tokens, limit); });
      },
      "namespace"_a, "prompt"_a, "hit_tokens"_a, "limit_tokens"_a = -1,
      "How far a prefix reaches with what a fetch would bring.");
  engine.def(
      "lend_memory", [](EngineHolder& self) { return lent_memory(self.get()->lend_memory()); },
      "The memory that all slots lie in, for whoever serves `remote_calls`; None without them.\n"
      "Let go of it before they are closed: `close()` waits 5 s for that.");
  engine.def_property_readonly(
      "has_lower_tier", [](EngineHolder const& self) { return self.get()->has_lower_tier(); });
  engine.def(
      "drain",
      [](EngineHolder& self, std::int64_t timeout_ms) {
        auto const target = self.get();
        return without_gil([&] { return target->drain(milliseconds(timeout_ms)); });
      },
      "timeout_ms"_a, "Waits until what was stored is on disk; False at the deadline.");
  engine.def(
      "reserve",
      [](EngineHolder& self, NamespaceHandle const& space, KeyChain const& prompt,
         std::uint32_t first_chunk, std::uint32_t end_token) {
        auto const target = self.get();
        auto const lanes = without_gil([&] {
          return target->reserve(space, prompt,
                                 {.first_chunk = first_chunk, .end_token = end_token});
        });
        std::vector<Refs> out;
        for (auto const& lane : lanes) out.push_back(packed(lane));
        return out;
      },
      "namespace"_a, "prompt"_a, "first_chunk"_a, "end_token"_a);
  engine.def(
      "cancel",
      [](EngineHolder& self, Refs const& refs) {
        auto const target = self.get();
        without_gil([&] { target->cancel(unpacked(refs)); });
      },
      "refs"_a);
  engine.def(
      "is_ready",
      [](EngineHolder& self, std::uint64_t ref) {
        return self.get()->is_ready(ChunkRef::unpack(ref));
      },
      "ref"_a);
  engine.def(
      "clear",
      [](EngineHolder& self, std::optional<NamespaceHandle> const& space) {
        auto const target = self.get();
        return without_gil([&] { return target->clear(space); });
      },
      "namespace"_a = py::none());
  engine.def(
      "count_prefill",
      [](EngineHolder& self, std::uint64_t tokens, std::uint64_t elapsed_ns) {
        self.get()->count_prefill(tokens, elapsed_ns);
      },
      "tokens"_a, "elapsed_ns"_a, "Prompt tokens that were computed, and what that took.");
  engine.def(
      "count_request",
      [](EngineHolder& self, std::uint64_t prompt_tokens, std::uint64_t hit_tokens,
         std::uint64_t load_ns) {
        self.get()->count_request(
            {.prompt_tokens = prompt_tokens, .hit_tokens = hit_tokens, .load_ns = load_ns});
      },
      "prompt_tokens"_a, "hit_tokens"_a, "load_ns"_a,
      "A request that was answered; load_ns: what it waited for its hit.");
  engine.def("stats", [](EngineHolder& self) { return to_dict(self.get()->counters()); });
  engine.def(
      "stats_total", [](EngineHolder& self) { return self.get()->counters().total(); },
      "All of stats() added up: while it stays, none of them grew. A hundredth of the time.");
  engine.def("status", [](EngineHolder& self) {
    auto const target = self.get();
    return to_dict(unwrap(without_gil([&] { return target->status(); })));
  });
  bind_transfers(engine);
  bind_tracing(engine);
}

}  // namespace lmcache::bindings

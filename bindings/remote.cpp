// SPDX-License-Identifier: Apache-2.0
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <lmcache/base/checksum.hpp>
#include <lmcache/engine/remote_store.hpp>
#include <lmcache/tier/remote/transport_queue.hpp>

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

RemoteSlots slots_in(py::buffer_info const& info, std::size_t count, std::uint64_t slot_bytes,
                     std::uint64_t payload_bytes) {
  if (static_cast<std::uint64_t>(info.size * info.itemsize) < count * slot_bytes) {
    throw py::value_error("the memory holds " + std::to_string(info.size * info.itemsize) +
                          " bytes, " + std::to_string(count * slot_bytes) + " are needed");
  }
  return {.data = static_cast<std::byte*>(info.ptr),
          .slot_bytes = slot_bytes,
          .payload_bytes = payload_bytes};
}

}  // namespace

void bind_remote(py::module_& module) {
  // Its destructor waits for threads, which may be waiting for the GIL.
  py::class_<RemoteStore>(module, "RemoteStore", "A remote store without an engine.",
                          py::release_gil_before_calling_cpp_dtor())
      .def_static(
          "open",
          [](std::string url, py::typing::Callable<void(int, std::string)> log, std::string serde,
             std::uint32_t connections, std::uint32_t timeout_ms, std::string user,
             std::string password, bool overwrites, std::uint32_t transfer_timeout_ms,
             std::uint32_t ttl_seconds, std::optional<std::shared_ptr<TransportQueue>> calls) {
            auto const lines = std::make_shared<LogQueue>(std::move(log));
            auto opened = without_gil([&] {
              return RemoteStore::open({.url = std::move(url),
                                        .user = std::move(user),
                                        .password = std::move(password),
                                        .serde = std::move(serde),
                                        .connections = connections,
                                        .overwrites = overwrites,
                                        .timeout_ms = timeout_ms,
                                        .transfer_timeout_ms = transfer_timeout_ms,
                                        .ttl_seconds = ttl_seconds,
                                        .calls = calls.value_or(nullptr)},
                                       lines->hook());
            });
            lines->drain();
            return unwrap(std::move(opened));
          },
          "url"_a, "log"_a, py::kw_only(), "serde"_a = "msgpack", "connections"_a = 4,
          "timeout_ms"_a = 10'000, "user"_a = "", "password"_a = "", "overwrites"_a = false,
          "transfer_timeout_ms"_a = 0, "ttl_seconds"_a = 0, "calls"_a = py::none(),
          "calls: instead of `url`, `serde`, `user` and `password`; closed with the store.\n"
          "transfer_timeout_ms: of write and read; 0 = timeout_ms.")
      .def_property_readonly("name", &RemoteStore::name, "The URL without its password.")
      .def(
          "ping",
          [](RemoteStore& self) { return unwrap(without_gil([&] { return self.ping(); })); },
          "Nanoseconds of a round trip.")
      .def("stat",
           [](RemoteStore& self) {
             auto const use = unwrap(without_gil([&] { return self.stat(); }));
             return StatusDict("url"_a = use.name, "server"_a = use.server, "role"_a = use.role,
                               "used_bytes"_a = use.used_bytes, "limit_bytes"_a = use.limit_bytes,
                               "chunks"_a = use.chunks, "orphans"_a = use.orphans);
           })
      .def(
          "clear",
          [](RemoteStore& self) { return unwrap(without_gil([&] { return self.clear(); })); },
          "Removes all chunks of ours; returns how many.")
      .def(
          "remove",
          [](RemoteStore& self, py::bytes const& keys) {
            auto const list = keys_in(keys);
            return unwrap(without_gil([&] { return self.remove(list); }));
          },
          "keys"_a)
      .def(
          "find",
          [](RemoteStore& self, py::bytes const& keys) {
            auto const list = keys_in(keys);
            return unwrap(without_gil([&] { return self.find(list); }));
          },
          "keys"_a, "How many of the chunks (32 bytes each key) are there, by one round trip.")
      .def(
          "write",
          [](RemoteStore& self, py::bytes const& keys, py::buffer const& memory,
             std::uint64_t slot_bytes, std::uint64_t payload_bytes) {
            auto const list = keys_in(keys);
            auto const info = memory.request(true);
            auto const slots = slots_in(info, list.size(), slot_bytes, payload_bytes);
            return without_gil([&] { return self.write(list, slots); });
          },
          "keys"_a, "memory"_a, "slot_bytes"_a, "payload_bytes"_a,
          "A chunk per key out of slots, whose first 256 bytes become its header.")
      .def(
          "read",
          [](RemoteStore& self, py::bytes const& keys, py::buffer const& memory,
             std::uint64_t slot_bytes) {
            auto const list = keys_in(keys);
            auto const info = memory.request(true);
            auto const slots = slots_in(info, list.size(), slot_bytes, 0);
            return without_gil([&] { return self.read(list, slots); });
          },
          "keys"_a, "memory"_a, "slot_bytes"_a, "Returns how many arrived and are right.")
      .def_static(
          "sum",
          [](py::buffer const& memory, std::uint64_t slot_bytes) {
            auto const info = memory.request();
            std::span const bytes{static_cast<std::byte const*>(info.ptr),
                                  static_cast<std::size_t>(info.size * info.itemsize)};
            return without_gil([&] {
              std::uint64_t sums = 0;
              for (std::uint64_t at = 0; at + slot_bytes <= bytes.size(); at += slot_bytes) {
                sums ^= checksum64(bytes.subspan(at, slot_bytes));
              }
              return sums;
            });
          },
          "memory"_a, "slot_bytes"_a,
          "Reads slots as their checksums do, on this thread; to be timed. All of them, xor.");
}

}  // namespace lmcache::bindings

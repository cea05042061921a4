// SPDX-License-Identifier: Apache-2.0
// Calls of a remote store that Python threads carry out. Every memoryview that leaves here, and
// every slice of it, refers to an object which keeps what it points into: a buffer of a call keeps
// the call from being delivered, and lent memory keeps the segment mapped.
#include "remote_calls.hpp"

#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <lmcache/key/chunk_key.hpp>

#include "module.hpp"
#include "without_gil.hpp"

namespace lmcache::bindings {

namespace py = pybind11;
using namespace py::literals;

namespace {

py::buffer_info bytes_at(std::byte const* data, std::size_t size_bytes, bool readonly) {
  return py::buffer_info{const_cast<std::byte*>(data),           1,   "B",     1,
                         {static_cast<py::ssize_t>(size_bytes)}, {1}, readonly};
}

// One buffer of a call, held as long as a view of it is.
class CallBuffer {
 public:
  CallBuffer(std::shared_ptr<TakenCall> call, std::span<std::byte const> bytes, bool readonly)
      : call_{std::move(call)}, bytes_{bytes}, readonly_{readonly} {
    call_->hold_buffer();
  }
  ~CallBuffer() { call_->let_go_of_buffer(); }
  CallBuffer(CallBuffer&&) = delete;

  [[nodiscard]] py::buffer_info info() const {
    return bytes_at(bytes_.data(), bytes_.size(), readonly_);
  }

 private:
  std::shared_ptr<TakenCall> const call_;
  std::span<std::byte const> const bytes_;
  bool const readonly_;
};

struct LentBuffer {
  std::shared_ptr<LentMemory> memory;
};

py::memoryview view_of(std::shared_ptr<TakenCall> const& call, std::span<std::byte const> bytes,
                       bool readonly) {
  return py::memoryview{py::cast(std::make_unique<CallBuffer>(call, bytes, readonly))};
}

std::vector<std::vector<py::memoryview>> buffers_of(std::shared_ptr<TakenCall> const& call) {
  auto const& request = call->request();
  std::vector<std::vector<py::memoryview>> out;
  for (auto const& target : request.targets) out.push_back({view_of(call, target, false)});
  for (std::size_t i = 0; i < request.sources.size(); i += 2) {
    out.push_back(
        {view_of(call, request.sources[i], true), view_of(call, request.sources[i + 1], true)});
  }
  return out;
}

std::vector<std::string> keys_of(TakenCall const& call) {
  std::vector<std::string> out;
  for (auto const& key : call.request().keys) out.push_back(to_hex(key));
  return out;
}

}  // namespace

std::optional<py::memoryview> lent_memory(std::shared_ptr<LentMemory> memory) {
  if (!memory) return std::nullopt;
  return py::memoryview{py::cast(std::make_unique<LentBuffer>(LentBuffer{std::move(memory)}))};
}

void bind_remote_calls(py::module_& module) {
  py::class_<CallBuffer>(module, "_CallBuffer", py::buffer_protocol())
      .def_buffer([](CallBuffer& self) { return self.info(); });
  py::class_<LentBuffer>(module, "_LentBuffer", py::buffer_protocol())
      .def_buffer([](LentBuffer& self) {
        auto const bytes = self.memory->bytes();
        return bytes_at(bytes.data(), bytes.size(), false);
      });

  py::class_<TakenCall, std::shared_ptr<TakenCall>>(
      module, "RemoteCall",
      "A call to carry out; delivered when it was answered and no view of its buffers is left.\n"
      "One that goes without an answer has failed.")
      .def_property_readonly(
          "op", [](TakenCall const& self) { return std::string{name_of(self.request().op)}; },
          "exists, get_into, put, remove, clear, describe or ping.")
      .def_property_readonly("keys", &keys_of, "64 hexadecimal digits each.")
      .def("buffers", &buffers_of,
           "New views, per key: one to be written of get_into; two of put, one after the other.")
      .def_property_readonly("ttl_seconds",
                             [](TakenCall const& self) { return self.request().ttl_seconds; })
      .def_property_readonly("delivered", &TakenCall::delivered)
      .def(
          "answer",
          [](TakenCall& self, std::vector<std::uint64_t> numbers) {
            self.answer({.numbers = std::move(numbers)});
          },
          "numbers"_a,
          "Bytes per key of exists and get_into, 0 or 1 per key of put, one number of remove and\n"
          "clear, none of ping.")
      .def(
          "answer_describe",
          [](TakenCall& self, std::string server, std::string role, std::uint64_t used_bytes,
             std::uint64_t limit_bytes, std::uint64_t chunks) {
            self.answer({.description = {.server = std::move(server),
                                         .role = std::move(role),
                                         .used_bytes = used_bytes,
                                         .limit_bytes = limit_bytes,
                                         .chunks = chunks}});
          },
          py::kw_only(), "server"_a, "role"_a, "used_bytes"_a, "limit_bytes"_a, "chunks"_a)
      .def(
          "fail",
          [](TakenCall& self, std::string text) { self.answer({.failure = std::move(text)}); },
          "text"_a, "One line that says why.");

  py::class_<TransportQueue, std::shared_ptr<TransportQueue>>(
      module, "RemoteCalls", "Calls of one engine, or one RemoteStore, to its remote store.")
      .def(py::init(&TransportQueue::create), "name"_a, "name: for messages, without a password.")
      .def_property_readonly("name", &TransportQueue::name)
      .def_property_readonly("closed", &TransportQueue::closed)
      // By value: a thread that a fork froze in here keeps the queue.
      .def(
          "take",
          [](std::shared_ptr<TransportQueue> self) -> std::optional<std::shared_ptr<TakenCall>> {
            auto call = without_gil([&] { return self->take(); });
            if (!call) return std::nullopt;
            return call;
          },
          "The next call; blocks. None: closed.")
      .def(
          "lend_headers",
          [](TransportQueue& self) { return *lent_memory(self.lend(self.headers().bytes())); },
          "The memory that the first buffer of every put lies in.")
      .def("close", &TransportQueue::close);
}

}  // namespace lmcache::bindings

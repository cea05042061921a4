// SPDX-License-Identifier: Apache-2.0
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <lmcache/base/fixed_text.hpp>
#include <lmcache/engine/request_tracing.hpp>
#include <lmcache/engine/segment_explain.hpp>

#include "engine_binding.hpp"
#include "errors.hpp"
#include "module.hpp"
#include "status_dict.hpp"
#include "without_gil.hpp"

namespace lmcache::bindings {

namespace py = pybind11;
using namespace py::literals;

namespace {

// Of the first value that has that name; ValueError otherwise.
RequestOutcome outcome_named(std::string_view name) {
  auto const found = std::ranges::find(kRequestOutcomes, name);
  if (found == kRequestOutcomes.end()) throw py::value_error("outcome " + std::string{name});
  return static_cast<RequestOutcome>(found - kRequestOutcomes.begin());
}

// What other processes wrote may be of a later version of ours.
template <class Names, class Value>
std::string name_of(Names const& names, Value value) {
  auto const at = static_cast<std::size_t>(value);
  return at < names.size() ? std::string{names[at]} : "unknown";
}

StatusDict to_dict(RequestTrace const& trace) {
  StatusDict out("number"_a = trace.number, "unix_s"_a = trace.unix_s, "pid"_a = trace.pid,
                 "request_id"_a = std::string{text_in(trace.request_id)},
                 "outcome"_a = name_of(kRequestOutcomes, trace.outcome),
                 "note"_a = std::string{text_in(trace.note)},
                 "prompt_tokens"_a = trace.prompt_tokens, "limit_tokens"_a = trace.limit_tokens,
                 "computed_tokens"_a = trace.computed_tokens,
                 "memory_tokens"_a = trace.memory_tokens, "found_tokens"_a = trace.found_tokens,
                 "loaded_tokens"_a = trace.loaded_tokens, "wait_us"_a = trace.wait_us,
                 "preemptions"_a = trace.preemptions);
  out["whole_chunks_only"] = (trace.flags & kWholeChunksOnly) != 0;
  out["opening"] = trace.opening;
  out["missing_key"] = trace.missing_key;
  out["missing_place"] = name_of(kMissingPlaces, trace.missing_place);
  out["missing_lane"] = trace.missing_lane;
  out["removal"] = name_of(kRemovalReasons, trace.removal);
  out["removed_unix_s"] = trace.removed_unix_s;
  out["namespace_id"] =
      trace.namespace_incarnation == 0 ? py::object{py::none()} : py::int_{trace.namespace_id};
  out["namespace_incarnation"] = trace.namespace_incarnation;
  return out;
}

StatusDict to_dict(PrefixThere const& there) {
  std::uint32_t const removed = there.removal ? there.removal->unix_s : 0;
  auto const reason = there.removal ? name_of(kRemovalReasons, there.removal->reason) : "";
  auto const& key = there.missing_key.bytes;
  return StatusDict(
      "found_tokens"_a = there.found_tokens,
      "missing_place"_a = name_of(kMissingPlaces, there.missing_place),
      "missing_lane"_a = there.missing_lane, "removal"_a = reason, "removed_unix_s"_a = removed,
      "continuations"_a = there.continuations,
      "missing_key"_a = py::bytes{reinterpret_cast<char const*>(key.data()), key.size()});
}

}  // namespace

void bind_tracing(py::class_<EngineHolder, std::shared_ptr<EngineHolder>>& engine) {
  engine.def(
      "trace_request",
      [](EngineHolder& self, std::string_view request_id, std::string_view outcome,
         std::optional<NamespaceHandle> const& space, py::typing::Optional<KeyChain> const& prompt,
         std::array<std::uint32_t, 7> const& counts, std::uint8_t preemptions,
         bool whole_chunks_only, std::string_view note) {
        RequestSeen const seen{.request_id = request_id,
                               .outcome = outcome_named(outcome),
                               .prompt_tokens = counts[0],
                               .limit_tokens = counts[1],
                               .computed_tokens = counts[2],
                               .memory_tokens = counts[3],
                               .found_tokens = counts[4],
                               .loaded_tokens = counts[5],
                               .wait_us = counts[6],
                               .preemptions = preemptions,
                               .whole_chunks_only = whole_chunks_only,
                               .note = note};
        auto const* const chain = prompt.is_none() ? nullptr : prompt.cast<KeyChain const*>();
        auto const target = self.get();
        without_gil([&] { target->trace_request(seen, space, chain); });
      },
      "request_id"_a, "outcome"_a, "namespace"_a, "prompt"_a, "counts"_a, "preemptions"_a = 0,
      "whole_chunks_only"_a = false, "note"_a = "",
      "Writes down what came of a request, for `lmcache explain`. counts: tokens of the prompt,\n"
      "asked for at most, computed by the serving engine, found in memory, found at last, loaded;\n"
      "microseconds waited.");
}

void bind_explain(py::module_& module) {
  module.def("request_outcomes", [] {
    return std::vector<std::string>{kRequestOutcomes.begin(), kRequestOutcomes.end()};
  });
  module.def(
      "read_requests",
      [](std::string const& path) {
        py::typing::List<StatusDict> out;
        for (auto const& trace : unwrap(without_gil([&] { return read_requests(path); }))) {
          out.append(to_dict(trace));
        }
        return out;
      },
      "path"_a, "What is known of the latest requests of a segment, latest first.");
  module.def(
      "explain_prompt",
      [](std::string const& path, std::uint16_t namespace_id, std::uint32_t world_size,
         KeyChain const& prompt) {
        return to_dict(unwrap(
            without_gil([&] { return explain_prompt(path, namespace_id, world_size, prompt); })));
      },
      "path"_a, "namespace_id"_a, "world_size"_a, "prompt"_a,
      "How far a prompt, whose root is that of the namespace, is there.");
  module.def(
      "find_opening",
      [](std::string const& path, std::uint64_t opening) {
        py::typing::Dict<py::int_, py::int_> out;
        for (auto const& found : unwrap(without_gil([&] { return find_opening(path, opening); }))) {
          out[py::int_{found.namespace_id}] = found.chunks;
        }
        return out;
      },
      "path"_a, "opening"_a, "Namespaces, and how many first chunks of each begin like that.");
}

}  // namespace lmcache::bindings

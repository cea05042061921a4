// SPDX-License-Identifier: Apache-2.0
// parse_model_record() on any bytes: texts that it returns have an end.
#include <lmcache/tier/disk/disk_format.hpp>

#include "fuzzing.hpp"

namespace {

using namespace lmcache;

void check_input(std::span<std::byte const> input) {
  auto const record = parse_model_record(input);
  if (!record) return;
  fuzz::require(input.size() >= sizeof(ModelRecord), "a record is complete");
  fuzz::require(record->model.back() == 0 && record->description.back() == 0, "texts have an end");
  auto again = *record;
  seal(again);
  fuzz::require(parse_model_record(std::as_bytes(std::span{&again, 1})).has_value(),
                "a sealed record is accepted");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  check_input(fuzz::bytes_of(data, size));
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned choice) {
  return fuzz::mutate_sealed<ModelRecord>(data, size, max_size, choice,
                                          [](ModelRecord& record) { seal(record); });
}

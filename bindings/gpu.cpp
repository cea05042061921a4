// SPDX-License-Identifier: Apache-2.0
#include <pybind11/pybind11.h>
#include <pybind11/typing.h>

#include <vector>

#include <lmcache/device/cuda_report.hpp>

#include "errors.hpp"
#include "module.hpp"
#include "status_dict.hpp"
#include "without_gil.hpp"

namespace lmcache::bindings {

namespace py = pybind11;
using namespace py::literals;

namespace {

// GB/s are bytes per nanosecond.
constexpr double kPerMicrosecond = 1e-3;

py::list to_list(std::vector<CopyRates> const& rates) {
  py::list out;
  for (CopyRates const& rate : rates) {
    out.append(py::dict("entry_bytes"_a = rate.entry_bytes,
                        "engine_gbps"_a = rate.engine * kPerMicrosecond,
                        "kernel_gbps"_a = rate.kernel * kPerMicrosecond));
  }
  return out;
}

py::dict side(std::vector<CopyRates> const& rates, double limit, CopyChoice::Side const& choice) {
  return py::dict("limit_gbps"_a = limit * kPerMicrosecond, "rates"_a = to_list(rates),
                  "engine_from_bytes"_a = choice.engine_from_bytes);
}

}  // namespace

void bind_gpu(py::module_& module) {
  module.def(
      "measure_gpu",
      [](int device) {
        auto const report = unwrap(without_gil([&] { return report_gpu(device, {}); }));
        auto const& measured = report.measured;
        return StatusDict(
            "device"_a = report.device, "driver_version"_a = report.driver_version,
            "batch_copies"_a = report.batch_copies, "kernels"_a = report.kernels,
            "store"_a = side(measured.store, measured.store_limit, report.choice.store),
            "load"_a = side(measured.load, measured.load_limit, report.choice.load),
            "inside"_a = side(measured.inside, measured.inside_limit, report.choice.inside));
      },
      "device"_a = 0,
      "How quickly a CUDA device copies scattered pieces, by size and direction. Raises\n"
      "UnavailableError, with the reason, where there is none.");
}

}  // namespace lmcache::bindings

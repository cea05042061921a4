// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/cuda_report.hpp>

#include <utility>

#include <lmcache/base/cuda_error.hpp>
#include <lmcache/device/cuda_loader.hpp>

namespace lmcache {

Result<GpuReport> report_gpu(CudaApi const& api, detail::CudaSession::Options const& options,
                             LogHook const& log, CopyMeasureOptions measure) {
  LMC_TRY_ASSIGN(auto const session, detail::CudaSession::open(api, options, log));
  CudaScope const scope{api, session->context()};
  LMC_TRY(cuda_done(api, "cuCtxPushCurrent", scope.status()));
  measure.inside = true;
  LMC_TRY_ASSIGN(auto measured, measure_copies(api, session->kernel(), measure));
  CopyChoice const choice = choose(measured);
  return GpuReport{.device = session->device_name(),
                   .driver_version = api.driver_version,
                   .batch_copies = api.memcpy_batch_12 != nullptr || api.memcpy_batch_13 != nullptr,
                   .kernels = session->kernel().function != nullptr,
                   .measured = std::move(measured),
                   .choice = choice};
}

Result<GpuReport> report_gpu(int device, LogHook const& log) {
  LMC_TRY_ASSIGN(auto const api, load_cuda());
  return report_gpu(api, {.device = device}, log);
}

}  // namespace lmcache

#!/bin/bash -l
#PBS -N c4jyzq2ivxjzmp
#PBS -A ABC123
#PBS -q prod
#PBS -l select=1032
#PBS -l walltime=06:00:00
#PBS -l filesystems=home:flare
#PBS -l place=scatter
#PBS -k doe
#PBS -r n
#PBS -j oe
#PBS -o /campaigns/sc26/stages/search-mace/link-1/attempt-1/job.log
# token c4jyzq2ivxjzmp
umask 077
cd /campaigns/sc26/stages/search-mace/link-1/attempt-1 || exit 73
mkdir -m 700 run || { [ -d run ] && exit 0; exit 73; }  # the fence
module load frameworks/2025.3.1
export MPI_PROVIDER=$FI_PROVIDER
unset MPIR_CVAR_CH4_COLL_SELECTION_TUNING_JSON_FILE MPIR_CVAR_COLL_SELECTION_TUNING_JSON_FILE
unset MPIR_CVAR_CH4_POSIX_COLL_SELECTION_TUNING_JSON_FILE
export ZE_FLAT_DEVICE_HIERARCHY=FLAT
export CCL_PROCESS_LAUNCHER=pmix
export CCL_ATL_TRANSPORT=mpi
export CCL_KVS_MODE=mpi
export CCL_KVS_USE_MPI_RANKS=1
export CCL_KVS_CONNECTION_TIMEOUT=600
export CCL_CONFIGURATION=cpu_gpu_dpcpp
export CCL_CONFIGURATION_PATH=''
export CCL_ALLREDUCE_SCALEOUT='direct:0-1048576;rabenseifner:1048577-max'
export CCL_BCAST=double_tree
export CCL_ZE_CACHE_OPEN_IPC_HANDLES_THRESHOLD=1024
export FI_MR_CACHE_MONITOR=userfaultfd
export FI_CXI_RX_MATCH_MODE=hybrid
export FI_CXI_OFLOW_BUF_SIZE=8388608
export FI_CXI_DEFAULT_CQ_SIZE=1048576
export FI_CXI_CQ_FILL_PERCENT=30
export INTELGT_AUTO_ATTACH_DISABLE=1
export PALS_PING_PERIOD=240
export PALS_RPC_TIMEOUT=240
export PYTHONNOUSERSITE=1
export http_proxy=http://proxy.alcf.anl.gov:3128
export https_proxy=http://proxy.alcf.anl.gov:3128
export no_proxy=localhost,127.0.0.0/8,.alcf.anl.gov
PYTHONPATH=/package${PYTHONPATH:+:$PYTHONPATH}; export PYTHONPATH
exec /env/bin/python -m workflow.allocation.agent /campaigns/sc26/stages/search-mace/link-1/attempt-1

#!/bin/bash
#SBATCH --constraint=nvme
#SBATCH --network=disable_rdzv_get
#SBATCH --job-name=c4eajdw7cu3t27
#SBATCH --comment=c4eajdw7cu3t27
#SBATCH --account=ABC123
#SBATCH --partition=batch
#SBATCH --nodes=2056
#SBATCH --time=720
#SBATCH --chdir=/campaigns/sc26/stages/train-1/link-1/attempt-1
#SBATCH --output=/campaigns/sc26/stages/train-1/link-1/attempt-1/job.log
#SBATCH --signal=B:USR1@540
#SBATCH --open-mode=append
#SBATCH --exclusive
#SBATCH --no-requeue
#SBATCH --no-kill
# token c4eajdw7cu3t27
umask 077
cd /campaigns/sc26/stages/train-1/link-1/attempt-1 || exit 73
mkdir -m 700 run || { [ -d run ] && exit 0; exit 73; }  # the fence
module load PrgEnv-gnu/8.7.0 cpe/26.03 rocm/7.1.1 craype-accel-amd-gfx90a rccl-net-plugin/1.0
module unload darshan-runtime
export LD_LIBRARY_PATH=$CRAY_LD_LIBRARY_PATH:$LD_LIBRARY_PATH
export NCCL_NET=Socket
export NCCL_CROSS_NIC=1
export NCCL_NET_GDR_LEVEL=PHB
export NCCL_SOCKET_IFNAME=hsn0,hsn1,hsn2,hsn3
export HSA_FORCE_FINE_GRAIN_PCIE=1
export FI_MR_CACHE_MONITOR=kdreg2
export FI_CXI_DISABLE_HOST_REGISTER=1
export FI_CXI_DEFAULT_CQ_SIZE=131072
export FI_CXI_DEFAULT_TX_SIZE=2048
export FI_CXI_RDZV_PROTO=alt_read
export FI_CXI_RDZV_EAGER_SIZE=0
export FI_CXI_RDZV_THRESHOLD=0
export FI_CXI_RDZV_GET_MIN=0
export FI_CXI_RX_MATCH_MODE=hybrid
export PYTHONNOUSERSITE=1
export http_proxy=http://proxy.ccs.ornl.gov:3128/
export https_proxy=http://proxy.ccs.ornl.gov:3128/
export no_proxy='localhost,127.0.0.0/8,*.ccs.ornl.gov'
PYTHONPATH=/package${PYTHONPATH:+:$PYTHONPATH}; export PYTHONPATH
exec /env/bin/python -m workflow.allocation.agent /campaigns/sc26/stages/train-1/link-1/attempt-1
